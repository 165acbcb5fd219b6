"""Samples one window of a shard of songs, storing its tokens as they come."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from jukebox_core.families.jukebox.sampling.decoder import clamp_codes
from jukebox_core.families.jukebox.sampling.sampler import WindowInputs, open_window, sample_window
from jukebox_core.runtime.oom import BatchSizes
from jukebox_core.sampling.noise import CounterNoise
from jukebox_core.store.spans import read_spans
from jukebox_core.store.spooled import open_store
from stages import stopping
from stages.handles import TokensHandle, tokens_handle
from stages.progress import meter
from stages.resident import resident_prior
from stages.sampling.snapshot import Snapshots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.sampling.config import SamplingConfig
    from jukebox_core.store.config import SpoolConfig
    from jukebox_core.store.store import TokenStore
    from jukebox_core.tokens.graph import Node, Span
    from stages.handles import FileHandle

log = logging.getLogger("jukebox")

_batch_sizes = BatchSizes()

SYNC_TOKENS = 64  # tokens drawn between two looks at the clock, where a look waits for the device ...
CPU_TOKENS = 8  # ... and where it does not, but a token may take a second


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingJob:
    """What every window of a run has in common."""

    config: JukeboxConfig
    weights: dict[int, FileHandle]  # of each prior that samples, by level
    sampling: SamplingConfig
    hardware: HardwareConfig
    store: str  # URI of the token store
    flush_tokens: int  # store unfinished windows after so many new tokens ...
    flush_seconds: float  # ... or so many seconds
    library: str | None = None  # the weights folder, where priors are kept as they sample; None keeps none
    scratch: str | None = None  # local folder for snapshots of caches; None keeps none
    snapshot_share: float = 0.005  # of the sampling time that writing snapshots may take
    spool: SpoolConfig | None = None  # where tokens wait while a remote store is away; None: as `open_store` says


def sample_shard(job: SamplingJob, nodes: Sequence[Node]) -> list[TokensHandle]:
    """Samples one window of several songs side by side, and seals each song's tokens under its own key.

    Returns the windows' handles, in the order of `nodes`. Songs whose window is sealed already are skipped. Tokens of
    an interrupted window are taken up again. Where memory runs out, half as many songs go on from the tokens that are
    stored by then.

    Raises:
        DeviceError: memory runs out with a single song.
    """
    store = open_store(job.store, spool=job.spool)
    todo = [node for node in nodes if not store.sealed(node.key)]
    if todo:
        work = f"{job.config.name}, level {todo[0].level}, on {job.hardware.device}"
        _batch_sizes.run_with_oom_retry(work, todo, lambda part: _sample(job, part, store))
    return [tokens_handle(store, node) for node in nodes]


def _sample(job: SamplingJob, nodes: Sequence[Node], store: TokenStore) -> None:
    level, window = nodes[0].level, nodes[0].window
    began = time.monotonic()
    prior = resident_prior(job.config, level, job.weights[level], job.hardware, job.library)
    inputs = WindowInputs(
        window=window,
        known_BT=_tokens(store, [node.reads for node in nodes]),
        above_BT=_tokens(store, [node.above for node in nodes]) if nodes[0].above else None,
        labels_BN=torch.tensor([node.labels for node in nodes]),
    )
    decoder, device = open_window(prior, inputs), next(prior.parameters()).device
    keeper = _Keeper(job, nodes, store, decoder)
    keeper.take_up()
    blocks = sample_window(
        decoder,
        inputs,
        job.sampling.level(level),
        CounterNoise(job.sampling.seed, level, [node.sample for node in nodes], device),
        forced_BT=torch.from_numpy(keeper.drawn).long(),
        prefill_chunk=job.hardware.prefill_chunk,
        block=CPU_TOKENS if device.type == "cpu" else SYNC_TOKENS,
    )
    clock = meter().start(level)
    try:
        for block_BT in blocks if keeper.drawn.shape[1] < window.new else ():
            keeper.add(block_BT.cpu().numpy().astype(np.int32))
            clock = meter().advance(level, block_BT.numel(), clock)
            stopping.check()
    except BaseException:
        keeper.flush()
        raise
    keeper.seal()
    meter().window_done(nodes, time.monotonic() - began)


class _Keeper:
    """Keeps what is drawn of one window: tokens in the store every so often, and the cache on the local disk."""

    def __init__(self, job: SamplingJob, nodes: Sequence[Node], store: TokenStore, decoder: WindowDecoder) -> None:
        self.drawn = np.empty((len(nodes), 0), np.int32)  # [samples, time], raw
        self._job, self._nodes, self._store, self._decoder = job, nodes, store, decoder
        self._blocks: list[NDArray[np.int32]] = []
        self._new, self._flushed = 0, time.monotonic()
        self._snapshots = Snapshots(job.scratch, nodes, job.snapshot_share)

    def take_up(self) -> None:
        """Takes up what an interrupted attempt left: as many tokens as every song of the shard has, and their cache."""
        partial = [self._store.read_partial(node.key) for node in self._nodes]
        common = min(0 if found is None else len(found.tokens) for found in partial)
        if common:
            self.drawn = np.stack([found.tokens[:common] for found in partial if found is not None])
            saved = self._snapshots.read(self.drawn)
            if saved is not None:
                self._decoder.restore(saved)
            log.info("level %d: %d tokens of an interrupted window taken up", self._nodes[0].level, common)

    def add(self, block: NDArray[np.int32]) -> None:
        """Takes newly drawn tokens [samples, time], and stores them all if that is due."""
        self._blocks.append(block)
        self._new += block.shape[1]
        if self._new >= self._job.flush_tokens or time.monotonic() - self._flushed >= self._job.flush_seconds:
            self.flush()
            if self._snapshots.due(self._job.flush_seconds):
                self._snapshots.write(self._decoder.save(), self.drawn)

    def flush(self) -> None:
        """Stores the tokens drawn so far."""
        stopping.check_held()
        if self._blocks:
            self._gather()
            with self._store.together():
                for node, tokens in zip(self._nodes, self.drawn, strict=True):
                    self._store.write_partial(node.key, tokens, first=node.window.known, causes=node.causes)
        self._new, self._flushed = 0, time.monotonic()

    def seal(self) -> None:
        """Stores the finished window, every song's tokens under its own key."""
        stopping.check_held()
        if len(self._nodes) > 1:
            self.flush()  # a kill between two seals must not leave a song to be finished in a smaller batch
        self._gather()
        with self._store.together():
            for node, tokens in zip(self._nodes, clamp_codes(torch.from_numpy(self.drawn)).numpy(), strict=True):
                self._store.seal(node.key, tokens, first=node.window.known, causes=node.causes)
        self._snapshots.remove()

    def _gather(self) -> None:
        self.drawn = np.concatenate([self.drawn, *self._blocks], axis=1)
        self._blocks = []


def _tokens(store: TokenStore, spans: Sequence[Sequence[Span]]) -> torch.Tensor:
    """Returns the tokens that each song's spans cover, int64 [samples, time]."""
    return torch.from_numpy(np.stack([read_spans(store, song) for song in spans])).long()
