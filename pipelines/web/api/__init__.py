"""The API: one module for each kind of thing, each with a function that returns its routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.web.api import events, jobs, models, prompts, runs, takes

if TYPE_CHECKING:
    from fastapi import APIRouter

    from pipelines.web.site import Site


def routers(site: Site) -> list[APIRouter]:
    """Returns the routes of the API of a site, without the prefix ``/api``."""
    return [module.router(site) for module in (models, runs, takes, jobs, prompts, events)]
