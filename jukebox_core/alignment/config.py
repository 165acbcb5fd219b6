"""How a text is brought in time with music, and as which files, as a frozen record. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jukebox_core.base.checks import require

TextFormat = Literal["json", "lrc", "srt", "vtt", "TextGrid"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignmentConfig:
    """Whose attention is read, over which windows, and what is written (docs/alignment.md)."""

    layer: int | None = None  # whose attention is read, counted from 0; null: as the model's settings say
    head: int | None = None  # of that layer
    hop: float = 0.125  # start of a window after the one before, as a share of the context
    merge: Literal["mean", "first"] = "mean"  # of windows that overlap; first is upstream's
    formats: tuple[TextFormat, ...] = ("json", "lrc", "srt", "vtt", "TextGrid")  # files of times
    matrix: bool = False  # also write the weights, float32 [codes, characters], as .npy
    upstream: bool = False  # also write the files that upstream's page reads

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("layer", "head"):
            value = getattr(self, name)
            require(value is None or value >= 0, f"{name} is {value}; it is counted from 0")
        require(0 < self.hop <= 1, f"hop is {self.hop}; it must be above 0 and at most 1, a share of the context")
        require(
            bool(self.formats) or self.matrix or self.upstream,
            "formats is empty, and matrix and upstream are false; ask for at least one of them",
        )
        require(len(set(self.formats)) == len(self.formats), f"formats is {list(self.formats)}; name each once")
