"""Samples one window of a shard of songs, storing its tokens as they come."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from jukebox_core.families.jukebox.decoder import clamp_codes
from jukebox_core.families.jukebox.sampler import WindowInputs, sample_window
from jukebox_core.sampling.noise import CounterNoise
from jukebox_core.tokens.spans import read_spans
from jukebox_core.tokens.store import TokenStore
from stages.handles import TokensHandle, tokens_handle
from stages.progress import meter
from stages.resident import resident_prior

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.sampling.config import SamplingConfig
    from jukebox_core.tokens.graph import Node, Span
    from stages.handles import FileHandle

SYNC_TOKENS = 64  # tokens drawn between two looks at the clock


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingJob:
    """What every window of a run has in common."""

    config: JukeboxConfig
    weights: dict[int, FileHandle]  # of each prior, by level
    sampling: SamplingConfig
    hardware: HardwareConfig
    store: str  # URI of the token store
    flush_tokens: int  # store unfinished windows after so many new tokens ...
    flush_seconds: float  # ... or so many seconds


def sample_shard(job: SamplingJob, nodes: Sequence[Node]) -> list[TokensHandle]:
    """Samples one window of several songs side by side, and seals each song's tokens under its own key.

    Returns the windows' handles, in the order of `nodes`. Songs whose window is sealed already are skipped. Tokens of
    an interrupted window are taken up again.
    """
    store = TokenStore(job.store)
    todo = [node for node in nodes if not store.sealed(node.key)]
    if todo:
        _sample(job, todo, store)
    return [tokens_handle(store, node) for node in nodes]


def _sample(job: SamplingJob, nodes: Sequence[Node], store: TokenStore) -> None:
    level, window = nodes[0].level, nodes[0].window
    began = time.monotonic()
    prior = resident_prior(job.config, level, job.weights[level], job.hardware)
    drawn = _interrupted(store, nodes)
    stored = drawn.shape[1]
    blocks = sample_window(
        prior,
        WindowInputs(
            window=window,
            known_BT=_tokens(store, [node.reads for node in nodes]),
            above_BT=_tokens(store, [node.above for node in nodes]) if nodes[0].above else None,
            labels_BN=torch.tensor([node.labels for node in nodes]),
        ),
        job.sampling.level(level),
        CounterNoise(job.sampling.seed, level, [node.sample for node in nodes]),
        forced_BT=torch.from_numpy(drawn).long(),
        prefill_chunk=job.hardware.prefill_chunk,
        block=min(SYNC_TOKENS, job.flush_tokens),
    )
    clock, flushed = meter().start(level), time.monotonic()
    try:
        for block_BT in blocks:
            drawn = np.concatenate([drawn, block_BT.cpu().numpy().astype(np.int32)], axis=1)
            clock = meter().advance(level, block_BT.numel(), clock)
            due = drawn.shape[1] - stored >= job.flush_tokens or time.monotonic() - flushed >= job.flush_seconds
            if due and drawn.shape[1] < window.new:
                _store_unfinished(store, nodes, drawn)
                stored, flushed = drawn.shape[1], time.monotonic()
    except BaseException:
        if drawn.shape[1] > stored:
            _store_unfinished(store, nodes, drawn)
        raise
    for node, tokens in zip(nodes, clamp_codes(torch.from_numpy(drawn)).numpy(), strict=True):
        store.seal(node.key, tokens, first=window.known, causes=node.causes)
    meter().window_done(nodes, time.monotonic() - began)


def _interrupted(store: TokenStore, nodes: Sequence[Node]) -> NDArray[np.int32]:
    """Returns the tokens that an interrupted attempt left, [samples, time]: as many as every song of the shard has."""
    partial = [store.read_partial(node.key) for node in nodes]
    common = min(0 if found is None else len(found.tokens) for found in partial)
    if common == 0:
        return np.empty((len(nodes), 0), np.int32)
    return np.stack([found.tokens[:common] for found in partial if found is not None])


def _store_unfinished(store: TokenStore, nodes: Sequence[Node], drawn: NDArray[np.int32]) -> None:
    for node, tokens in zip(nodes, drawn, strict=True):
        store.write_partial(node.key, tokens, first=node.window.known, causes=node.causes)


def _tokens(store: TokenStore, spans: Sequence[Sequence[Span]]) -> torch.Tensor:
    """Returns the tokens that each song's spans cover, int64 [samples, time]."""
    return torch.from_numpy(np.stack([read_spans(store, song) for song in spans])).long()
