"""Types of attention layers, and how a sequence is folded (docs/upstream.md, Attention). Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from jukebox_core.errors import ConfigError


class AttentionType(IntEnum):
    """The types of attention layer, by upstream's numbers (docs/upstream.md, Attention)."""

    DENSE = 0  # all earlier positions
    BLOCK = 1  # earlier positions of the same row
    COLUMN = 2  # earlier positions of the same column
    PREVIOUS_BLOCK = 3  # the whole row before; zeros for the first row
    SUMMARY = 4  # the last position of every earlier row
    SPREAD_SUMMARY = 5  # the last few positions of every earlier row
    CROSS = 6  # the encoder's output
    PRIME = 7  # earlier positions among the first few


@dataclass(frozen=True, slots=True)
class Fold:
    """How a sequence is folded into rows, and the lengths that some layer types need."""

    positions: int
    rows: int = 1
    prime: int = 0  # leading positions that belong to the prime, for PRIME
    spread: int | None = None  # summary positions of each row, for SPREAD_SUMMARY

    def __post_init__(self) -> None:
        """Checks that rows are of equal length."""
        if self.positions % self.rows:
            raise ConfigError(f"{self.positions} positions do not fold into {self.rows} rows; choose a divisor")

    @property
    def columns(self) -> int:
        """Positions of one row."""
        return self.positions // self.rows

    @property
    def prime_keys(self) -> int:
        """How many leading positions PRIME attends to: upstream rounds up past the prime even where it divides."""
        return (self.prime // self.rows + 1) * self.rows


# The layer types of an order repeat with this cycle (orders 11 and 12 are computed, below).
_CYCLES = {
    0: (0,),
    1: (1, 2),
    2: (1, 2, 3),
    3: (1, 4),
    4: (1, 5),
    5: (1, 4, 1, 1),
    6: (1, 2, 3, 6),
    7: (1, 2, 3) * 5 + (6,),
    8: (1, 2, 3) * 3 + (6,),
    9: (1, 2, 3, 0),
    10: (1, 2, 3) * 3 + ((1, 2, 3) * 3 + (6,)) * 7,
}
_SIXTEENTH = {11: (6, 6, 0), 12: (7, 7, 0)}  # types of every sixteenth layer, cyclically


def attention_types(order: int, depth: int) -> tuple[AttentionType, ...]:
    """Returns the type of each of `depth` layers for one of the 13 attention orders."""
    if order in _CYCLES:
        cycle = _CYCLES[order]
        return tuple(AttentionType(cycle[layer % len(cycle)]) for layer in range(depth))
    return tuple(
        AttentionType((_SIXTEENTH[order] if layer % 16 == 15 else (1, 2, 3))[layer % 3]) for layer in range(depth)
    )
