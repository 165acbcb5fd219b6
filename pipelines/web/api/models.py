"""``/api/models`` and ``/api/settings``: models, the names that they know, and what can be set."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from jukebox_core.models.presets import load_preset
from pipelines.settings.compose import GENERATE, compose
from pipelines.settings.generate import Settings
from pipelines.settings.schema import schema
from pipelines.web import requests
from pipelines.web.overrides import ALLOWED, check_model
from pipelines.web.site import Site
from pipelines.web.views.models import labels, models


def router(site: Site) -> APIRouter:
    """Returns the routes."""
    routes = APIRouter(tags=["models"])
    weights = compose(GENERATE, site.settings.overrides).weights

    @routes.get("/models")
    def listing() -> dict[str, Any]:
        """Every model: what it does, its licence, its size, whether it is here, the memory that it needs."""
        return {"models": models(weights), "memory_free_bytes": _free(), "memory_bytes": _total()}

    @routes.get("/models/{model}/labels")
    def names(model: str, kind: str = "artist", word: str = "") -> dict[str, Any]:
        """The artists or genres of a model that have a word in them; near misses if there is none."""
        return labels(check_model(model), kind, word[:100], weights)

    @routes.post("/models/{model}/fetch")
    def fetch(model: str, request: requests.Fetch, check: bool = False) -> dict[str, Any]:
        """Fetches the files of a model, as a job."""
        return site.submit(site.actions.fetch(model, request), f"fetch {model}", check=check)

    @routes.get("/settings")
    def settings(model: str = "mini") -> dict[str, Any]:
        """The JSON schema of the settings of a run by a model, and which of them requests may set."""
        family = load_preset(check_model(model)).family
        return {"schema": schema(Settings, {"model": {"family": family}}), "allowed": list(ALLOWED)}

    return routes


def _free() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _total() -> int:
    import psutil

    return int(psutil.virtual_memory().total)
