"""Exports one graph: written, compared with its module, and only then put in its place with its record.

Files are made in a folder of their own inside the target, so that a kill, a full disk or a graph that is not right
leaves nothing that could be taken for a graph.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jukebox_core.base.atomic import FULL, atomic_replace, atomic_write, write_error
from jukebox_core.base.hashing import digest_file
from jukebox_core.base.locks import locked
from jukebox_core.base.records import dump_record
from jukebox_core.base.text import format_bytes
from jukebox_core.errors import DiskError, NumericsError
from jukebox_core.export.compare import TOLERANCES, compare, reasons_against
from jukebox_core.export.exporter import write_graph
from jukebox_core.export.extra import EXPORTING, require_packages, versions
from jukebox_core.export.record import SCHEMA, GraphRecord, is_finished, record_path
from jukebox_core.export.session import Session, data_file
from jukebox_core.export.storage import store_bytes, store_halves
from jukebox_core.export.weights import tensors_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from jukebox_core.export.compare import Compared, Tolerance
    from jukebox_core.export.config import ExportConfig
    from jukebox_core.export.graph import Graph
    from jukebox_core.export.weights import Found

log = logging.getLogger("jukebox")

_ROOM = 1.5  # of the weights' bytes: nodes, and an int8 copy beside


def export_graph(
    open_graph: Callable[[], Graph],
    folder: Path,
    name: str,
    config: ExportConfig,
    source: Mapping[str, Any],
) -> Path:
    """Writes a graph and its record to `folder`, unless both are there; returns the record's path.

    Args:
        open_graph: returns the graph, with its weights; called only if there is something to do.
        folder: where its files go.
        name: of the graph, and of its files.
        config: how it is written.
        source: fields of the record about the model: key, model, family, weights.

    Raises:
        ConfigError: the packages of the extra ``onnx`` are not installed.
        NumericsError: the graph does not compute what the module does; nothing is kept.
        DiskError: there is no space, or the folder cannot be written.
    """
    require_packages("export", EXPORTING)
    made = record_path(folder, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    with locked(folder / f".{name}.lock"):
        if is_finished(folder, name, source["key"]):
            log.info("%s exists already", made)
            return made
        with _partial(folder, name) as partial:
            _export(open_graph(), partial, folder, config, source)
    return made


def _export(graph: Graph, partial: Path, folder: Path, config: ExportConfig, source: Mapping[str, Any]) -> None:
    _check_room(graph, folder)
    path = partial / f"{graph.name}.onnx"
    dtype = _dtype(graph, config)
    log.info("exporting %s", graph.name)
    found = write_graph(graph, path, config)
    if found.missing:
        raise NumericsError(f"{graph.name} lacks the weights {', '.join(found.missing)}; it was not kept")
    if dtype == "float16":
        store_halves(path, inline_bytes=config.inline_bytes)
    elif dtype == "int8":
        store_bytes(path, graph.quantised or (), inline_bytes=config.inline_bytes)
    tolerance = TOLERANCES[dtype]
    results = compare(graph, Session(path), tolerance)
    wrong = reasons_against(results, tolerance)
    if wrong:
        raise NumericsError(f"{graph.name} does not compute what the model does, and was not kept: {'; '.join(wrong)}")
    record_path(folder, graph.name).unlink(missing_ok=True)  # that of an older graph, which is replaced now
    files = {}
    for each in (data_file(path), path):
        if each.exists():
            files[each.name] = {"bytes": each.stat().st_size, "sha256": digest_file(each)}
            atomic_replace(each, folder / each.name)
        else:
            (folder / each.name).unlink(missing_ok=True)
    with atomic_write(record_path(folder, graph.name)) as file:
        file.write(dump_record(_record(graph, config, source, files, found, results, tolerance)))


def _record(
    graph: Graph,
    config: ExportConfig,
    source: Mapping[str, Any],
    files: dict[str, Any],
    found: Found,
    results: list[Compared],
    tolerance: Tolerance,
) -> dict[str, Any]:
    unused = sorted(set(tensors_of(graph.module)) - {*found.found, *found.zeros})
    return asdict(
        GraphRecord(
            schema=SCHEMA,
            key=source["key"],
            model=source["model"],
            family=source["family"],
            graph=graph.name,
            files=files,
            dtype=_dtype(graph, config),
            opset=config.opset,
            versions=versions(),
            weights=dict(source["weights"]),
            inputs=tuple(port.described() for port in graph.inputs),
            outputs=tuple(port.described() for port in graph.outputs),
            sizes={name: (graph.least.get(name, 1), graph.limits.get(name)) for name in graph.example},
            application=dict(graph.facts),
            report={
                "tensors": len(found.found),
                "zeros": sorted(found.zeros),  # biases that add nothing, which are left out
                "unused": unused,  # no output depends on them
                "tolerance": asdict(tolerance),
                "cases": [asdict(each) for each in results],
            },
        )
    )


def _dtype(graph: Graph, config: ExportConfig) -> str:
    """Returns what the weights of a graph are stored in."""
    return "float32" if config.dtype == "int8" and graph.quantised is None else config.dtype


@contextmanager
def _partial(folder: Path, name: str) -> Iterator[Path]:
    """Gives an empty folder, which is removed at the end, as is what a killed process left in it."""
    partial = folder / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
    except OSError as error:
        raise error if isinstance(error, DiskError) else write_error(partial, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_room(graph: Graph, folder: Path) -> None:
    needed = int(sum(each.nbytes for each in tensors_of(graph.module).values()) * _ROOM)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskError(
            f"{graph.name} needs about {format_bytes(needed)} in {folder}, where {format_bytes(free)} are free; free "
            "some or choose another place",
            min(FULL),
        )
