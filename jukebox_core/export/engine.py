"""``hardware.engine=onnx``: a model's networks as graphs in onnxruntime, which are exported when they are first used.

Graphs are kept in the folder of caches, by the key of their weights and settings. They compute in float32: tokens are
those of the other engines but for rounding.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from jukebox_core.base.paths import cache_dir
from jukebox_core.errors import DeviceError
from jukebox_core.export.config import ExportConfig
from jukebox_core.export.extra import RUNNING, require_packages
from jukebox_core.export.record import graph_key, is_finished
from jukebox_core.export.session import Session, check_providers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from jukebox_core.export.graph import Graph
    from jukebox_core.protocols import WeightFile
    from jukebox_core.runtime.config import HardwareConfig

log = logging.getLogger("jukebox")

ENGINE = "onnx"
_CONFIG = ExportConfig()


def check_hardware(hardware: HardwareConfig) -> None:
    """Checks that graphs can compute as `hardware` asks for.

    Raises:
        ConfigError: onnxruntime is not installed.
        DeviceError: a precision that graphs do not have, or a provider that is not there.
    """
    require_packages("hardware.engine=onnx", RUNNING)
    if hardware.dtype not in ("auto", "float32"):
        raise DeviceError(f"hardware.dtype is {hardware.dtype}, but engine=onnx computes in float32; set that")
    check_providers(hardware.providers)


def open_graphs(
    family: str,
    config: Any,
    names: Sequence[str],
    files: Mapping[str, WeightFile],
    hardware: HardwareConfig,
    open_graph: Callable[[Any, str, Mapping[str, WeightFile]], Graph],
) -> dict[str, Session]:
    """Returns sessions of a model's graphs, by name; those that are not in the folder of caches are exported first.

    Args:
        family: name of the model's family.
        config: the model.
        names: of the graphs.
        files: those that all of them are made from, by role.
        hardware: providers and threads.
        open_graph: the family's.

    Raises:
        DeviceError, ConfigError: as `check_hardware`.
        NumericsError: a graph does not compute what the network does.
    """
    check_hardware(hardware)
    found = {}
    for name in names:
        folder = _folder(family, config, name, files, open_graph)
        found[name] = Session(folder / f"{name}.onnx", hardware.providers, hardware.threads)
    return found


def _folder(
    family: str,
    config: Any,
    name: str,
    files: Mapping[str, WeightFile],
    open_graph: Callable[[Any, str, Mapping[str, WeightFile]], Graph],
) -> Path:
    weights = {role: file.identity for role, file in files.items()}
    key = graph_key(family, config, name, weights, _CONFIG)
    folder = cache_dir("graphs") / key[:32]
    if not is_finished(folder, name, key):
        from jukebox_core.export.export import export_graph  # torch's exporter, which needs seconds

        log.warning("%s is exported once for engine=onnx, which takes minutes; %s keeps it", name, folder)
        source = {"key": key, "model": config.name, "family": family, "weights": weights}
        export_graph(lambda: open_graph(config, name, files), folder, name, _CONFIG, source)
    return folder
