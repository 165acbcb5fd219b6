"""Where memory runs out, work goes on with half as many items side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.errors import DeviceError
from jukebox_core.runtime.batches import Batches, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Sequence


class Memory:
    """Work that fits `room` items, and notes what it was given."""

    def __init__(self, room: int, error: Exception) -> None:
        self.room, self.error = room, error
        self.given: list[list[int]] = []

    def work(self, items: Sequence[int]) -> list[int]:
        self.given.append([*items])
        if len(items) > self.room:
            raise self.error
        return [10 * item for item in items]


def test_a_batch_is_halved_until_it_fits_and_order_is_kept() -> None:
    memory = Memory(2, torch.OutOfMemoryError("CUDA out of memory"))
    done = Batches().work("level 2", range(7), memory.work)
    assert [item for part in done for item in part] == [0, 10, 20, 30, 40, 50, 60]
    assert memory.given == [[0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3], [0, 1], [2, 3], [4, 5, 6], [4, 5], [6]]


def test_what_failed_is_not_tried_again_for_the_same_work() -> None:
    batches, memory = Batches(), Memory(2, MemoryError())
    batches.work("level 2", range(4), memory.work)
    memory.given.clear()
    batches.work("level 2", range(4), memory.work)
    assert memory.given == [[0, 1], [2, 3]]
    batches.work("level 1", range(4), memory.work)
    assert memory.given[2] == [0, 1, 2, 3]


def test_one_item_that_does_not_fit_is_an_error_that_says_so() -> None:
    memory = Memory(0, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    with pytest.raises(DeviceError, match=r"level 2: memory runs out even with one sample at a time \(CUDA out of"):
        Batches().work("level 2", [0, 1], memory.work)


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        Batches().work("level 2", [0, 1], Memory(0, RuntimeError("shapes differ")).work)


def test_a_failed_allocation_on_the_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
