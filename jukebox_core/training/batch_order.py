"""Order of a dataset's items: a function of the seed and the batch's number, so that resuming needs no state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator


class EndlessBatchSampler(Sampler[list[int]]):
    """Batches of item numbers for one process, endless, from any batch on.

    Every epoch is shuffled with its own seed. Item numbers keep counting from epoch to epoch, so that a dataset can
    augment the same item differently each time. The batches of a distributed training alternate between processes.

    Args:
        items: items of one epoch.
        batch_size: items of one batch on this process.
        seed: of the shuffling.
        first: the number of the first batch, counted from 0.
        rank: number of this process among `world_size`.
        world_size: processes that draw from the same order.
    """

    def __init__(
        self, items: int, batch_size: int, seed: int, *, first: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self._items, self._batch_size, self._seed = items, batch_size, seed
        self._first, self._rank, self._world_size = first, rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        """Yields batches, endlessly."""
        number, epoch, order = self._first, -1, np.arange(0)
        while True:
            begin = (number * self._world_size + self._rank) * self._batch_size
            chosen = []
            for place in range(begin, begin + self._batch_size):
                if place // self._items != epoch:
                    epoch = place // self._items
                    order = np.random.default_rng((self._seed, epoch)).permutation(self._items)
                chosen.append(epoch * self._items + int(order[place % self._items]))
            yield chosen
            number += 1
