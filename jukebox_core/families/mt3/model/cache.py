"""State of decoding a batch: keys and values of the decoder. Legend as in `transformer`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FIRST_ROOM = 64  # tokens for which memory is reserved at first; it doubles when they are full


@dataclass(slots=True)
class LayerCache:
    """Keys and values of one layer.

    | tensor | shape |
    |---|---|
    | cross_k, cross_v | [B, H, S, D], of the source, constant |
    | k, v | [B, H, room, D], of the tokens so far |
    """

    cross_k_BHSD: Tensor
    cross_v_BHSD: Tensor
    k_BHRD: Tensor | None = None
    v_BHRD: Tensor | None = None

    def append(self, at: int, k_BH1D: Tensor, v_BH1D: Tensor) -> tuple[Tensor, Tensor]:
        """Writes the keys and values of position `at`; returns those of all positions up to it, [B, H, at + 1, D]."""
        self.k_BHRD, self.v_BHRD = _with_room(self.k_BHRD, at, k_BH1D), _with_room(self.v_BHRD, at, v_BH1D)
        self.k_BHRD[:, :, at] = k_BH1D[:, :, 0]
        self.v_BHRD[:, :, at] = v_BH1D[:, :, 0]
        return self.k_BHRD[:, :, : at + 1], self.v_BHRD[:, :, : at + 1]

    def select(self, rows: Tensor) -> None:
        """Keeps the rows with these indices."""
        self.cross_k_BHSD, self.cross_v_BHSD = self.cross_k_BHSD[rows], self.cross_v_BHSD[rows]
        if self.k_BHRD is not None and self.v_BHRD is not None:
            self.k_BHRD, self.v_BHRD = self.k_BHRD[rows], self.v_BHRD[rows]


@dataclass(slots=True)
class DecoderCache:
    """The caches of all layers, and the number of tokens that they hold."""

    layers: list[LayerCache]
    length: int = 0

    def select(self, rows: Tensor) -> None:
        """Keeps the rows with these indices, so that finished ones cost nothing."""
        for layer in self.layers:
            layer.select(rows)


def _with_room(held_BHRD: Tensor | None, at: int, new_BH1D: Tensor) -> Tensor:
    if held_BHRD is None:
        return new_BH1D.new_empty(*new_BH1D.shape[:2], FIRST_ROOM, new_BH1D.shape[3])
    if at < held_BHRD.shape[2]:
        return held_BHRD
    return torch.cat([held_BHRD, torch.empty_like(held_BHRD)], dim=2)
