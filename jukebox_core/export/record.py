"""The record beside a graph: what an application has to know, and the proof that it is right. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest, digest_file
from jukebox_core.base.records import read_record
from jukebox_core.errors import RecordError
from jukebox_core.export.config import EXPORT_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jukebox_core.export.config import ExportConfig

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphRecord:
    """The content of ``<graph>.json``."""

    schema: int
    key: str  # digest of all that decides the graph
    model: str
    family: str
    graph: str
    files: dict[str, Any]  # by name: bytes and sha256; the graph, and its weights where they are apart
    dtype: str
    opset: int
    versions: dict[str, str]  # of the packages that made it
    weights: dict[str, str]  # sha256 of the files that it was made from, by role
    inputs: tuple[Any, ...]  # name, shape and dtype; a size that is a name may be any, 768*frames is a multiple
    outputs: tuple[Any, ...]
    sizes: dict[str, Any]  # smallest and largest value of each size that is a name; null: no limit of its own
    application: dict[str, Any]  # rates, ids, layouts, the loop in words
    report: dict[str, Any]


def graph_key(family: str, config: Any, name: str, weights: Mapping[str, str], export: ExportConfig) -> str:
    """Returns the key of a graph: the digest of its weights and settings.

    Args:
        family: of the model.
        config: of the model.
        name: of the graph.
        weights: identities of the files it is made from, by role.
        export: how it is written.
    """
    return digest(
        {
            "version": EXPORT_VERSION,
            "family": family,
            "model": config,
            "graph": name,
            "weights": dict(weights),
            "format": export.format,
            "dtype": export.dtype,
            "opset": export.opset,
            "inline_bytes": export.inline_bytes,
        }
    )


def record_path(folder: Path, name: str) -> Path:
    """Returns the path of the record of a graph."""
    return folder / f"{name}.json"


def read_graph_record(path: Path) -> dict[str, Any]:
    """Returns a graph's record, checked.

    Raises:
        FileNotFoundError: it does not exist.
        RecordError: it is damaged, or of a newer version.
    """
    return read_record(path, GraphRecord, SCHEMA)


def is_finished(folder: Path, name: str, key: str) -> bool:
    """Whether a folder holds the graph with this key, and its files as they were written."""
    try:
        record = read_graph_record(record_path(folder, name))
    except (FileNotFoundError, RecordError):
        return False
    files = {folder / file: each["sha256"] for file, each in record["files"].items()}
    return record["key"] == key and all(path.is_file() and digest_file(path) == sha for path, sha in files.items())
