"""Samples one window of a batch of songs with a resident network, storing its progress."""

from __future__ import annotations

import time
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
    from collections.abc import Sequence

    from jukebox_core.family import ModelConfig
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.store.config import SpoolConfig
    from jukebox_core.tokens.graph import Node
    from stages.handles import FileHandle


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingJob:
    """What every window of a run has in common."""

    family: str
    config: ModelConfig
    weights: dict[str, FileHandle]  # of each network that samples, by role
    sampling: Any  # the family's `sampling_type`
    hardware: HardwareConfig
    store: str  # URI of the token store
    policy: FlushPolicy  # how often progress is stored
    library: str | None = None  # the weights folder, where prepared weights are kept; None keeps none
    spool: SpoolConfig | None = None  # where tokens wait while a remote store is away; None: as `open_store` says

    def network(self, level: int) -> NetworkSpec:
        """Returns the network that samples `level`."""
        role = open_family(self.family).role_of(level)
        return NetworkSpec(
            family=self.family,
            config=self.config,
            role=role,
            weights=self.weights[role],
            hardware=self.hardware,
            library=self.library,
        )


def sample_shard(job: SamplingJob, nodes: Sequence[Node]) -> list[TokensHandle]:
    """Samples one window of a batch of songs, and seals each song's output under its own key.

    Returns the windows' handles, in the order of `nodes`. Songs whose window is sealed already are skipped; an
    interrupted window is resumed. Where memory runs out, half as many songs continue from what is stored by then.

    Raises:
        DeviceError: memory runs out with a single song.
    """
    store, level = open_store(job.store, spool=job.spool), nodes[0].level
    work = f"{job.config.name}, level {level}, on {job.hardware.device}"
    sample_nodes(job.network(level).open, nodes, store, job.sampling, job.policy, _ProcessObserver(), work=work)
    return [tokens_handle(store, node) for node in nodes]


class _ProcessObserver:
    """Stops where this process was asked to, writes only while the run is held, and moves the progress meter."""

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

    def sealed(self, nodes: Sequence[Node], seconds: float) -> None:
        meter().window_done(nodes, seconds)
