"""The web application: API, pages and static files of one site, behind `Guard` and `Access`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from jukebox_core.errors import JukeboxError
from pipelines.orchestration.guard import Guard
from pipelines.web import api, pages
from pipelines.web.access import Access
from pipelines.web.problems import answer, answer_of_shape, status_of
from pipelines.web.views.uploads import MOST_BYTES

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.types import ASGIApp, Scope

    from pipelines.web.site import Site

STATIC = Path(__file__).parent / "static"


def application(site: Site) -> ASGIApp:
    """Returns the application with its protection."""
    token = site.token if site.settings.asks_for_token else None
    return Guard(Access(routes(site), token, MOST_BYTES), site.settings.host)


def routes(site: Site) -> FastAPI:
    """Returns the application without its protection: its routes are listed, and tested, from here."""
    app = FastAPI(
        title="jukebox web",
        version=_version(),
        description="Makes songs. Every request that makes something answers with the command that does the same.",
        docs_url=None,  # its pages load from other servers
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    for router in api.routers(site):
        app.include_router(router, prefix="/api")
    app.include_router(pages.router(site), include_in_schema=False)
    app.mount("/static", _Static(directory=STATIC), name="static")
    app.add_exception_handler(JukeboxError, _refused)
    app.add_exception_handler(RequestValidationError, _misshapen)
    app.add_exception_handler(HTTPException, _missing)
    return app


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, JukeboxError)
    return JSONResponse(answer(error), status_of(error))


async def _misshapen(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse(answer_of_shape(error.errors()), 422)


async def _missing(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    body: dict[str, Any] = {"error": "HTTPError", "message": str(error.detail), "problems": []}
    return JSONResponse(body, error.status_code, headers=error.headers)


class _Static(StaticFiles):
    """Files of the package; browsers ask whether they have changed."""

    async def get_response(self, path: str, scope: Scope) -> Any:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _version() -> str:
    try:
        return version("jukebox-pipelines")
    except PackageNotFoundError:
        return "0"
