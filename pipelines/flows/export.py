"""The flow of `jukebox export`: fetch, then one graph after the other, each of which is finished by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.models.stored import to_stored
from pipelines.execution import export
from pipelines.orchestration.flow_runs import run_flow
from pipelines.orchestration.stage_calls import PLAIN

if TYPE_CHECKING:
    from pipelines.settings.export import ExportSettings


def export_flow(settings: ExportSettings) -> list[str]:
    """Exports the graphs of a model, recorded as a flow run of Prefect's; returns their paths."""
    return run_flow(
        "export",
        to_stored(settings),
        PLAIN,
        lambda stages: export.export(settings, stages),
        "recorded",
        settings.storage.root,
    )
