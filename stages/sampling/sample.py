"""Samples one window of a batch of songs with a resident network, storing its progress."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.family import open_family
from jukebox_core.sampling.windows import FlushPolicy, sample_nodes
from jukebox_core.store.spooled import open_store
from stages import stopping
from stages.handles import TokensHandle, tokens_handle
from stages.progress import meter
from stages.resident import NetworkSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jukebox_core.family import ModelConfig
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.store.config import SpoolConfig
    from jukebox_core.tokens.graph import Node
    from stages.handles import FileHandle


_hearing: list[Callable[[Sequence[Node]], None]] = []


@contextmanager
def hearing_progress(hear: Callable[[Sequence[Node]], None]) -> Iterator[None]:
    """A block in which `hear` is called, in the thread that samples, when the progress of a window was stored."""
    _hearing.append(hear)
    try:
        yield
    finally:
        _hearing.remove(hear)


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingJob:
    """Settings that all windows of a run share."""

    family: str
    config: ModelConfig
    weights: dict[str, FileHandle]  # of all files that the networks are made from, by role
    sampling: Any  # the family's `sampling_type`
    hardware: HardwareConfig
    store: str  # URI of the token store
    policy: FlushPolicy  # how often progress is stored
    library: str | None = None  # the weights folder, where prepared weights are cached; None: no cache
    spool: SpoolConfig | None = None  # local disk for tokens while a remote store is unavailable; None: the default

    def network(self, level: int) -> NetworkSpec:
        """Returns the network that samples `level`."""
        role = open_family(self.family).role_of(level)
        return NetworkSpec(
            family=self.family,
            config=self.config,
            role=role,
            weights=self.weights,
            hardware=self.hardware,
            library=self.library,
        )


def sample_shard(job: SamplingJob, nodes: Sequence[Node]) -> list[TokensHandle]:
    """Samples one window of a batch of songs, seals each song's output under its own key, and returns the handles.

    Handles are in the order of `nodes`. Idempotent: songs whose window is sealed already are skipped, and an
    interrupted window is resumed. If memory runs out, sampling is retried with half as many songs.

    Raises:
        DeviceError: memory runs out with a single song.
    """
    store, level = open_store(job.store, spool=job.spool), nodes[0].level
    work = f"{job.config.name}, level {level}, on {job.hardware.device}"
    sample_nodes(job.network(level).open, nodes, store, job.sampling, job.policy, _ProcessObserver(), work=work)
    return [tokens_handle(store, node) for node in nodes]


class _ProcessObserver:
    """The observer of a worker process: checks the stop flag and the run's lock, and advances the progress meter."""

    def __init__(self) -> None:
        self._clock = time.monotonic()

    def check_stop(self) -> None:
        stopping.check()

    def check_lock(self) -> None:
        stopping.check_held()

    def started(self, level: int) -> None:
        self._clock = meter().start(level)

    def drew(self, level: int, tokens: int) -> None:
        self._clock = meter().advance(level, tokens, self._clock)

    def stored(self, nodes: Sequence[Node]) -> None:
        for hear in _hearing:
            hear(nodes)

    def sealed(self, nodes: Sequence[Node], seconds: float) -> None:
        meter().window_done(nodes, seconds)
