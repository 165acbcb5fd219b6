"""A batch that runs out of memory is retried in halves."""

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
from jukebox_core.runtime.allocator import anonymous_mmap
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.runtime.oom import BatchSizes, is_out_of_memory
from stages.fetch import fetch_weights
from stages.sampling.sample import sample_shard
from tests.helpers.models.shards import shards

if TYPE_CHECKING:
    from collections.abc import Sequence


class Memory:
    """Work that fits `capacity` items, and records its batches."""

    def __init__(self, capacity: int, error: Exception) -> None:
        self.capacity, self.error = capacity, error
        self.batches: list[list[int]] = []

    def work(self, items: Sequence[int]) -> list[int]:
        self.batches.append([*items])
        if len(items) > self.capacity:
            raise self.error
        return [10 * item for item in items]


def test_a_batch_is_halved_until_it_fits_and_order_is_kept() -> None:
    memory = Memory(2, torch.OutOfMemoryError("CUDA out of memory"))
    done = BatchSizes().run_with_oom_retry("level 2", range(7), memory.work)
    assert [item for part in done for item in part] == [0, 10, 20, 30, 40, 50, 60]
    assert memory.batches == [[0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3], [0, 1], [2, 3], [4, 5, 6], [4, 5], [6]]


def test_a_size_that_failed_is_not_retried_for_the_same_kind_of_work() -> None:
    sizes, memory = BatchSizes(), Memory(2, MemoryError())
    sizes.run_with_oom_retry("level 2", range(4), memory.work)
    memory.batches.clear()
    sizes.run_with_oom_retry("level 2", range(4), memory.work)
    assert memory.batches == [[0, 1], [2, 3]]
    sizes.run_with_oom_retry("level 1", range(4), memory.work)
    assert memory.batches[2] == [0, 1, 2, 3]


def test_one_item_that_does_not_fit_is_an_error_that_says_so() -> None:
    memory = Memory(0, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    with pytest.raises(DeviceError, match=r"level 2: out of memory even with a batch of one sample \(CUDA out of"):
        BatchSizes().run_with_oom_retry("level 2", [0, 1], memory.work)


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        BatchSizes().run_with_oom_retry("level 2", [0, 1], Memory(0, RuntimeError("shapes differ")).work)


def test_a_refused_mapping_is_recognised() -> None:
    with pytest.raises(MemoryError, match="cannot allocate 70,368,744,177,664 bytes") as caught:
        anonymous_mmap(2**46)
    assert is_out_of_memory(caught.value)


def test_a_failed_allocation_on_the_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


SONGS, FITTING = 64, 24  # samples of the batch, and about how many fit within the limit


def sample_within(folder: Path, songs: float | None) -> tuple[list[list[int]], list[str]]:
    """Samples `SONGS` songs, in one batch if memory allows; returns their tokens, and the log.

    Args:
        folder: A temporary folder.
        songs: Limits memory to the loaded model and so many songs; None: no limit.
    """
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("jukebox").addHandler(handler)
    threading.stack_size(1 << 18)  # of the thread that stores tokens: its default of 8 MB would be a few songs
    torch.set_num_threads(1)
    model, hardware = load_preset("mini"), HardwareConfig(device="cpu", dtype="float32")
    weights = fetch_weights(model, WeightsConfig(folder=str(folder / "weights")))
    top = model.config.top
    job, (first, *_) = shards(model, weights, str(folder / "store"), hardware, tokens=8, songs=SONGS, stop_level=top)
    job.network(top).open()
    if songs is not None:
        per_song = estimate_bytes(model.config, top, "float32", 2) - estimate_bytes(model.config, top, "float32", 1)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + int(songs * per_song), hard))
    return [handle.read().tolist() for handle in sample_shard(job, first)], messages


@pytest.mark.slow
def test_songs_are_the_same_where_the_system_gives_too_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # other arenas reserve 64 MB each, which the limit counts
    found = []
    for name, songs in (("unlimited", None), ("limited", FITTING)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found.append(process.submit(sample_within, tmp_path / name, songs).result())
    (unlimited, calm_log), (limited, oom_log) = found
    assert not [line for line in calm_log if "out of memory" in line]
    halved = [line for line in oom_log if "out of memory" in line]
    assert f"out of memory with a batch of {SONGS}; retrying with a batch of {SONGS // 2}" in halved[0]
    assert len({tuple(song) for song in unlimited}) > SONGS / 2
    assert limited == unlimited
