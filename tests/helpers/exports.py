"""Graphs of small models, exported once: an export takes a minute or more. They are kept until a source changes."""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from jukebox_core.export.config import ExportConfig
from jukebox_core.family import open_exporting
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_weights
from stages.export import export_graph
from stages.handles import FileHandle
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from jukebox_core.export.graph import Graph
    from jukebox_core.models.presets import ModelSettings

_SOURCES = ("export/*.py", "families/{}/export/*.py", "families/{}/model/*.py")
_KEPT_SECONDS = 3 * 24 * 3600  # of graphs of older sources, which another process may still use


@cache
def digest_of_sources(family: str) -> str:
    patterns = [pattern.format(family) for pattern in _SOURCES]
    files = sorted(path for pattern in patterns for path in (ROOT / "jukebox_core").glob(pattern))
    files = [path for path in files if path.name != "engine.py"]  # which runs graphs
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


@dataclass(frozen=True)
class Exports:
    """A folder of graphs, which several processes may use: a graph that one of them makes is waited for."""

    root: Path

    @classmethod
    def below(cls, folder: Path) -> Exports:
        """A folder, from which graphs of older sources are removed."""
        for old in folder.iterdir():
            if time.time() - old.stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        return cls(folder)

    def folder(self, model: str | Path, *names: str, dtype: Any = "float32") -> Path:
        """The folder in which the graphs of these names are."""
        preset = load_preset(model)
        family = open_exporting(preset.family)
        folder = self.root / f"{preset.family}-{digest_of_sources(preset.family)}" / f"{preset.name}-{dtype}"
        for name in names:
            roles = family.graphs(preset.config)[name]
            weights = {role: FileHandle.of(path, identity) for role, (path, identity) in files(preset, *roles).items()}
            export_graph(preset, name, weights, str(folder), ExportConfig(dtype=dtype))
        return folder

    def of(self, graph: Callable[[], Graph], family: str, model: str, name: str, dtype: Any = "float32") -> Path:
        """The folder of a graph that no preset describes, of a model with this name."""
        folder = self.root / f"{family}-{digest_of_sources(family)}" / f"{model}-{dtype}"
        source = {"key": model, "model": model, "family": family, "weights": {}}
        from jukebox_core.export.export import export_graph as export_one

        export_one(graph, folder, name, ExportConfig(dtype=dtype), source)
        return folder


def files(preset: ModelSettings, *roles: str) -> dict[str, tuple[Path, str]]:
    """Path and identity of files of weights."""
    found = obtain_weights(preset, WeightsConfig(accept_licence=True), roles=roles, show_progress=False)
    return {role: (each.path, each.identity) for role, each in found.items()}


def opened(model: str | Path, name: str) -> Graph:
    """A graph with its module, as it is exported."""
    from jukebox_core.protocols import WeightFile

    preset = load_preset(model)
    family = open_exporting(preset.family)
    roles = family.graphs(preset.config)[name]
    return family.open_graph(preset.config, name, {k: WeightFile(*v) for k, v in files(preset, *roles).items()})


def stored_once(arrays: Sequence[NDArray[Any]], tensors: Mapping[str, Tensor]) -> None:
    """No weight is in a graph twice, as it is and transposed: its constants are no larger than the module."""
    largest = 1.01 * sum(each.nbytes for each in tensors.values()) + 4096
    assert sum(each.nbytes for each in arrays) <= largest
