"""Export of a model's graphs: checks before anything is loaded, then one graph after the other."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.paths import output_folder
from jukebox_core.export.extra import EXPORTING, require_packages
from pipelines.execution.inputs import check_local_weights
from pipelines.licence_prompt import ask

if TYPE_CHECKING:
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.settings.export import ExportSettings

log = logging.getLogger("jukebox")


def check(settings: ExportSettings) -> None:
    """Checks all that needs no network.

    Raises:
        JukeboxError: the first check that fails.
    """
    require_packages("export", EXPORTING)
    output_folder(settings.folder)
    ask(settings.model.files, settings.weights)
    check_local_weights(settings.model, settings.weights, _roles(settings))


def export(settings: ExportSettings, stages: Stages) -> list[str]:
    """Writes the graphs that are not there yet; returns the paths of all."""
    weights = stages.fetch_weights(settings.model, settings.weights, roles=_roles(settings))
    folder = output_folder(settings.folder)
    made = []
    for name, roles in settings.chosen.items():
        files = {role: weights[role] for role in roles}
        record = stages.export_graph(settings.model, name, files, str(folder), settings.how)
        made.append(str(Path(record.uri).with_suffix(".onnx")))
        log.info("%s -> %s", name, made[-1])
    return made


def _roles(settings: ExportSettings) -> tuple[str, ...]:
    return tuple(dict.fromkeys(role for roles in settings.chosen.values() for role in roles))
