"""A prior behind the door: `PriorModel` samples nodes, `PriorWindow` is the state of one window of a batch of songs.

The resumable state of a window is the prefix of its tokens: a resumed window repeats their steps, or restores the
caches that were saved after them.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from jukebox_core.errors import NumericsError
from jukebox_core.families.jukebox.sampling.decoder import clamp_codes
from jukebox_core.families.jukebox.sampling.sampler import WindowInputs, open_window, sample_window
from jukebox_core.sampling.noise import CounterNoise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.sampling.config import SamplingConfig
    from jukebox_core.protocols import Progress
    from jukebox_core.tokens.graph import Node

SYNC_TOKENS = 64  # tokens per step where reading them synchronises with the device ...
CPU_TOKENS = 8  # ... and on the CPU, where a token may take a second


@dataclass(frozen=True, slots=True)
class Prefix:
    """The progress of one song's window."""

    tokens: NDArray[np.int32]  # [time], raw: those of the single-sequence kind may be negative
    state: bytes | None = None  # not used: the tokens are the whole state


@dataclass(frozen=True, slots=True)
class PriorModel:
    """The prior of one level."""

    prior: Prior
    prefill_chunk: int | None  # known tokens per forward pass of the prefill; None is all
    snapshots: bool = True  # the state of a window can be continued by any engine that makes snapshots

    def start(
        self,
        nodes: Sequence[Node],
        inputs: Mapping[str, NDArray[np.int32]],
        partial: Sequence[Progress | None],
        sampling: SamplingConfig,
    ) -> PriorWindow:
        """Returns the state of one window of a batch of songs, resumed after the shortest of the songs' prefixes."""
        upper = torch.from_numpy(inputs["above"]).long() if nodes[0].inputs["above"] else None
        window = WindowInputs(
            window=nodes[0].window,
            known_BT=torch.from_numpy(inputs["reads"]).long(),
            above_BT=upper,
            labels_BN=torch.tensor([node.causes["labels"] for node in nodes]),
        )
        drawn = [np.empty(0, np.int32) if each is None or each.tokens is None else each.tokens for each in partial]
        common = min(map(len, drawn))
        prefix = np.stack([tokens[:common] for tokens in drawn])
        return PriorWindow(self, nodes, window, prefix, sampling)


class PriorWindow:
    """One window of a batch of songs while a prior samples it."""

    def __init__(
        self,
        model: PriorModel,
        nodes: Sequence[Node],
        inputs: WindowInputs,
        drawn: NDArray[np.int32],
        sampling: SamplingConfig,
    ) -> None:
        """Prepares to continue after `drawn`, int32 [songs, time], the tokens of an interrupted attempt."""
        self._decoder, self._snapshots = open_window(model.prior, inputs), model.snapshots
        self._drawn, self._blocks, self._new = drawn, list[np.ndarray](), inputs.window.new
        self._failed = False  # logits were not finite: no token after `_drawn` counts
        level, device = nodes[0].level, model.prior.device
        self._tokens = sample_window(  # lazily: a cache may be restored before the first step
            self._decoder,
            inputs,
            sampling.level(level),
            CounterNoise(sampling.seed, level, [node.sample for node in nodes], device),
            forced_BT=torch.from_numpy(drawn).long(),
            prefill_chunk=model.prefill_chunk,
            block=CPU_TOKENS if device.type == "cpu" else SYNC_TOKENS,
        )

    def step(self) -> int | None:
        """Draws a block of tokens; returns its length per song, or None if the window is full.

        Raises:
            NumericsError: logits are not finite; `save` and `results` return no token that may be drawn from them.
        """
        if self._drawn.shape[1] == self._new:
            return None
        with self._failing():
            block_BT = next(self._tokens, None)
        if block_BT is None:
            return None
        self._blocks.append(block_BT.cpu().numpy().astype(np.int32))
        return block_BT.shape[1]

    def save(self) -> list[Prefix]:
        """Returns the tokens of each song drawn so far; NumericsError, once, if their logits were not finite."""
        return [Prefix(tokens) for tokens in self._gathered()]

    def results(self) -> list[NDArray[np.int32]]:
        """Returns the codes of the full window, int32 [time] for each song."""
        return list(clamp_codes(torch.from_numpy(self._gathered())).numpy())

    def save_cache(self) -> Mapping[str, Tensor]:
        """Returns the decoder's caches, by name; nothing of an engine without snapshots."""
        return self._decoder.save() if self._snapshots else {}

    def restore_cache(self, saved: Mapping[str, Tensor]) -> None:
        """Continues from caches that `save_cache` returned after a prefix of the same tokens.

        An engine without snapshots repeats the steps instead.
        """
        if self._snapshots:
            self._decoder.restore(saved)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Drops the tokens whose logits were not looked at if the block raises NumericsError."""
        try:
            yield
        except NumericsError:
            self._blocks, self._failed = [], True
            raise

    def _gathered(self) -> NDArray[np.int32]:
        if self._failed:
            return self._drawn
        with self._failing():
            self._decoder.check_logits()
        self._drawn = np.concatenate([self._drawn, *self._blocks], axis=1)
        self._blocks = []
        return self._drawn
