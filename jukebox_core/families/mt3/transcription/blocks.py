"""Rows of segments in blocks, as whole numbers that a store can hold. Imports no torch.

A block holds `SEGMENTS` segments, the last block of a recording those that are left:

    for each segment: 1 if it is complete, else 0; the number of its ids; the ids
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jukebox_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

SEGMENTS = 8  # seconds of work on a CPU, which a stop has to wait for


class Row(NamedTuple):
    """The ids of one segment, without the start token."""

    ids: list[int]  # the last one is the end of sequence if it was reached
    complete: bool  # whether it was reached before the limit of tokens


def to_block(rows: Iterable[Row]) -> NDArray[np.int32]:
    """Returns rows as one array, int32 [numbers]."""
    numbers: list[int] = []
    for row in rows:
        numbers += [int(row.complete), len(row.ids), *row.ids]
    return np.array(numbers, np.int32)


def from_block(block: NDArray[np.int32]) -> list[Row]:
    """Returns the rows of a block.

    Raises:
        StoreError: it is no block.
    """
    rows, numbers, at = [], block.tolist(), 0
    while at + 1 < len(numbers):
        complete, count = numbers[at : at + 2]
        rows.append(Row(numbers[at + 2 : at + 2 + count], bool(complete)))
        if len(rows[-1].ids) != count:
            break
        at += 2 + count
    if at != len(numbers):
        raise StoreError(
            "a stored block of a transcription is malformed; remove the token store, or choose another one"
        )
    return rows
