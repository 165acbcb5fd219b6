"""Settings of an export as a frozen record. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jukebox_core.base.checks import require

EXPORT_VERSION = 2
"""Incremented whenever a change of the code can change graphs or their records; part of every graph's key."""

OLDEST_OPSET, NEWEST_OPSET = 18, 20
_SMALLEST_LIMIT = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """How graphs are written."""

    format: Literal["onnx"] = "onnx"
    dtype: Literal["float32", "float16", "int8"] = "float32"  # of weights; int8: some graphs stay float32
    opset: int = 18  # version of ONNX's operations, 18 to 20
    graphs: tuple[str, ...] | None = None  # names of the graphs; null: all of the model
    inline_bytes: int = 2_000_000_000  # weights of more bytes are written to a file beside the graph

    def __post_init__(self) -> None:
        """Checks ranges."""
        require(
            OLDEST_OPSET <= self.opset <= NEWEST_OPSET,
            f"opset is {self.opset}; it must be from {OLDEST_OPSET} to {NEWEST_OPSET}: the operations of older ones do "
            "not suffice",
        )
        require(self.graphs is None or bool(self.graphs), "graphs is empty; name at least one, or null for all")
        require(
            _SMALLEST_LIMIT <= self.inline_bytes <= 2_000_000_000,
            f"inline_bytes is {self.inline_bytes}; it must be from {_SMALLEST_LIMIT:,} to 2,000,000,000, which a graph "
            "with its weights in one file may have at most",
        )
