"""Which items of a dataset a step learns from: a function of the seed and the step, so that resuming needs no state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator


class StepOrder(Sampler[list[int]]):
    """Batches of item numbers for one process, from a batch on, without end.

    Every epoch is shuffled anew; item numbers go on counting from epoch to epoch, so that a dataset may make another
    item of the same place. The processes of a distributed training take turns at the items of a batch.

    Args:
        items: how many items an epoch has.
        batch: items of one batch on this process.
        seed: of the shuffling.
        first: the batch to begin with, counted from 0.
        rank: number of this process among `world`.
        world: how many processes share every batch.
    """

    def __init__(self, items: int, batch: int, seed: int, *, first: int = 0, rank: int = 0, world: int = 1) -> None:
        self._items, self._batch, self._seed = items, batch, seed
        self._first, self._rank, self._world = first, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        """Yields batches without end."""
        number, epoch, order = self._first, -1, np.arange(0)
        while True:
            begin = (number * self._world + self._rank) * self._batch
            chosen = []
            for place in range(begin, begin + self._batch):
                if place // self._items != epoch:
                    epoch = place // self._items
                    order = np.random.default_rng((self._seed, epoch)).permutation(self._items)
                chosen.append(epoch * self._items + int(order[place % self._items]))
            yield chosen
            number += 1
