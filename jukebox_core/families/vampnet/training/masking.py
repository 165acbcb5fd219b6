"""Masks of training batches: the share of each item comes from a Sobol sequence. Legend: B items, K books, T time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jukebox_core.families.vampnet.masks.parts import keep_books, random

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.config import TransformerConfig
    from jukebox_core.families.vampnet.masks.draws import MaskDraws


class MaskRatios:
    """Numbers in [0, 1) that cover the interval evenly: a scrambled Sobol sequence, which can continue anywhere.

    Args:
        seed: of the scrambling.
        drawn: numbers that were drawn before.
    """

    def __init__(self, seed: int, drawn: int = 0) -> None:
        self._engine = torch.quasirandom.SobolEngine(1, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
        self.drawn = drawn
        if drawn:
            self._engine.fast_forward(drawn)  # type: ignore[no-untyped-call]

    def draw(self, count: int) -> Tensor:
        """Returns the next `count` numbers, float32 [count]."""
        self.drawn += count
        return self._engine.draw(count)[:, 0]


def training_mask(codes_BKT: Tensor, ratio_B: Tensor, config: TransformerConfig, draws: MaskDraws) -> Tensor:
    """Returns the tokens that a batch is trained on, [B, K, T]; books that condition are never masked."""
    items, books, steps = codes_BKT.shape
    return keep_books(random((items, books, steps), ratio_B, draws), config.n_conditioning_codebooks)
