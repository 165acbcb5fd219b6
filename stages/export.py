"""Exports one graph of a model: a file for programs without Python, and its record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.hashing import digest_file
from jukebox_core.export.record import graph_key
from jukebox_core.family import open_exporting
from jukebox_core.protocols import WeightFile
from stages.handles import FileHandle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.export.config import ExportConfig
    from jukebox_core.export.graph import Graph
    from jukebox_core.models.presets import ModelSettings


def export_graph(
    model: ModelSettings, name: str, weights: Mapping[str, FileHandle], folder: str, config: ExportConfig
) -> FileHandle:
    """Returns the handle of a graph's record; a graph that is there already is not made again.

    Args:
        model: the model.
        name: of the graph.
        weights: handles of the files that it is made from, by role.
        folder: where the graph and its record go.
        config: how it is written.

    Raises:
        JukeboxError: as `jukebox_core.export.export.export_graph`; nothing is kept.
    """
    from jukebox_core.export.export import export_graph as export

    family, identities = open_exporting(model.family), {role: each.identity for role, each in weights.items()}

    def open_graph() -> Graph:
        files = {role: WeightFile(each.read(), each.identity) for role, each in weights.items()}
        return family.open_graph(model.config, name, files)

    source = {
        "key": graph_key(model.family, model.config, name, identities, config),
        "model": model.name,
        "family": model.family,
        "weights": identities,
    }
    path = export(open_graph, Path(folder), name, config, source)
    return FileHandle.of(path, digest_file(path))
