"""The pages: what the server writes once; the rest is filled in by `static/*.js` from the API."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from pipelines.web.site import Site

PAGES = {"/": "studio", "/queue": "queue", "/models": "models", "/help": "help"}
SONGS_TO_TRY = (
    {
        "title": "A lantern waltz",
        "about": "a waltz by music box",
        "model": "mini",
        "artist": "music box",
        "genre": "waltz",
        "lyrics": "light the lantern, light the way, sing until the break of day",
        "seconds": 6,
    },
    {
        "title": "Left, right",
        "about": "a march",
        "model": "mini",
        "artist": "unknown",
        "genre": "march",
        "lyrics": "left, right, left, right, morning comes to the end of night",
        "seconds": 6,
    },
    {
        "title": "No words at all",
        "about": "any music",
        "model": "mini",
        "artist": "unknown",
        "genre": "unknown",
        "lyrics": "",
        "seconds": 6,
    },
)


@cache
def templates() -> Environment:
    """Returns the templates, which escape everything."""
    return Environment(
        loader=PackageLoader("pipelines.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def enter_page(*, wrong: bool) -> str:
    """Returns the page that asks for the token."""
    return templates().get_template("enter.html").render(wrong=wrong)


def router(site: Site) -> APIRouter:
    """Returns the routes of the pages."""
    pages = APIRouter()

    def show(name: str) -> Any:
        def page(request: Request) -> HTMLResponse:
            shown = {
                "page": name,
                "nonce": request.state.nonce,
                "root": str(site.settings.root),
                "songs": SONGS_TO_TRY,
                "licence": load_preset("mini").files.licence,
            }
            return HTMLResponse(templates().get_template(f"{name}.html").render(shown))

        return page

    for path, name in PAGES.items():
        pages.add_api_route(path, show(name), response_class=HTMLResponse)
    return pages
