"""``/api/prompts``: recordings to go on from."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from pipelines.web.site import Site
from pipelines.web.views.sounds import POINTS, peaks


def router(site: Site) -> APIRouter:
    """Returns the routes."""
    routes = APIRouter(prefix="/prompts", tags=["prompts"])

    @routes.get("")
    def prompts() -> dict[str, Any]:
        """The recordings that were uploaded, newest first."""
        return {"prompts": site.uploads.all()}

    @routes.post("", status_code=201)
    async def upload(request: Request) -> dict[str, Any]:
        """Takes a recording, the body of the request: wav, flac, ogg or mp3, at most 64 MB and 20 minutes."""
        return await site.uploads.receive(request.stream())

    @routes.get("/{identifier}/audio")
    def audio(identifier: str) -> FileResponse:
        """The recording, with byte ranges."""
        return FileResponse(site.uploads.path(identifier))

    @routes.get("/{identifier}/peaks")
    def wave(identifier: str, points: int = POINTS) -> dict[str, Any]:
        """The wave of the recording."""
        return peaks(site.uploads.path(identifier), points)

    @routes.delete("/{identifier}", status_code=204)
    def remove(identifier: str) -> None:
        """Removes the recording; runs that began with it stay complete."""
        site.uploads.remove(identifier)

    return routes
