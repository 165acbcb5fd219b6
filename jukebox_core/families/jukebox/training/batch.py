"""Batches that a prior is trained on: windows of codes, their label rows, and the pace of their lyrics.

Shape suffixes: B batch, T codes, N label columns, U codes of the upper level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from jukebox_core.datasets.windows import CodeWindow


class Windows(Protocol):
    """Windows of codes, with one for every index from 0 on; `len` is the number of an epoch."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> CodeWindow: ...


class PriorBatch(NamedTuple):
    """A batch of windows; int64 except the pace."""

    codes_BT: Tensor
    labels_BN: Tensor
    upper_BU: Tensor | None
    pace_B2: Tensor  # of the lyrics (`guided_attention.Pace`), float32; NaN for items without lyrics


class Item(NamedTuple):
    """One window of a batch; likewise."""

    codes_T: Tensor
    labels_N: Tensor
    upper_U: Tensor | None
    pace_2: Tensor


def collate(items: Sequence[Item]) -> PriorBatch:
    """Returns the items as a batch."""
    codes, rows, upper, paces = zip(*items, strict=True)
    upper_BU = None if upper[0] is None else torch.stack(upper)
    return PriorBatch(torch.stack(codes), torch.stack(rows), upper_BU, torch.stack(paces))
