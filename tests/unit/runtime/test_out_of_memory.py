"""Where memory runs out, work goes on with half as many items side by side."""

from __future__ import annotations

import logging
import resource
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.errors import DeviceError
from jukebox_core.families.jukebox.sampling.memory import estimate_bytes
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.batches import Batches, is_out_of_memory
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.runtime.heap import untouched
from stages.fetch import fetch_weights
from stages.sampling.sample import sample_shard
from tests.helpers.shards import shards

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


def test_memory_that_the_system_does_not_give_is_recognised() -> None:
    with pytest.raises(MemoryError, match="the system gives no 70,368,744,177,664 bytes") as caught:
        untouched(2**46)
    assert is_out_of_memory(caught.value)


def test_a_failed_allocation_on_the_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


SONGS, FITTING = 64, 24  # side by side: those asked for, and those that the limit has room for, about


def sample_within(folder: Path, songs: float | None) -> tuple[list[list[int]], list[str]]:
    """Samples `SONGS` songs, all at once if memory allows; returns their tokens, and what the log said.

    Args:
        folder: of its own.
        songs: for how many the system gives memory beyond what the loaded model takes; None: no limit.
    """
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("jukebox").addHandler(handler)
    threading.stack_size(1 << 18)  # of the thread that stores tokens: its usual 8 MB would be a few songs
    torch.set_num_threads(1)
    model, hardware = load_preset("mini"), HardwareConfig(device="cpu", dtype="float32")
    weights = fetch_weights(model, WeightsConfig(folder=str(folder / "weights")))
    top = model.config.top
    job, (first, *_) = shards(model, weights, str(folder / "store"), hardware, tokens=8, songs=SONGS, stop_level=top)
    job.network(top).open()
    if songs is not None:
        a_song = estimate_bytes(model.config, top, "float32", 2) - estimate_bytes(model.config, top, "float32", 1)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (taken + int(songs * a_song), hard))
    return [handle.read().tolist() for handle in sample_shard(job, first)], heard


@pytest.mark.slow
def test_songs_are_the_same_where_the_system_gives_too_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # others are set aside 64 MB at a time, which the limit counts
    found = []
    for name, songs in (("roomy", None), ("tight", FITTING)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found.append(process.submit(sample_within, tmp_path / name, songs).result())
    (roomy, at_ease), (tight, in_need) = found
    assert not [line for line in at_ease if "memory ran out" in line]
    halved = [line for line in in_need if "memory ran out" in line]
    assert f"memory ran out with {SONGS} samples side by side; going on with {SONGS // 2}" in halved[0]
    assert len({tuple(song) for song in roomy}) > SONGS / 2
    assert tight == roomy
