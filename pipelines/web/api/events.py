"""``/api/events``: what happens, as server-sent events."""

from __future__ import annotations

from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import StreamingResponse

from pipelines.web.hub import MOST_CLIENTS
from pipelines.web.site import Site


def router(site: Site) -> APIRouter:
    """Returns the routes."""
    routes = APIRouter(tags=["events"])

    @routes.get("/events")
    async def events(last_event_id: str | None = Header(None)) -> StreamingResponse:
        """Events from now on, or after `Last-Event-ID`: job, progress, log, runs, marks, models, reset."""
        if site.hub.clients >= MOST_CLIENTS:
            raise HTTPException(503, f"{MOST_CLIENTS} clients listen already; close some pages")
        after = int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 16 else None
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(site.hub.stream(after), media_type="text/event-stream", headers=headers)

    return routes
