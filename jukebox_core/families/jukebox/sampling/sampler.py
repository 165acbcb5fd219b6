"""Sampling one window of a batch of songs (docs/upstream.md, Sampling and Windows).

Shape suffixes: B songs, T tokens of this level, N label columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder, draw_codes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.sampling.config import LevelSampling
    from jukebox_core.sampling.noise import Noise
    from jukebox_core.tokens.plan import Window


@dataclass(frozen=True, slots=True)
class WindowInputs:
    """Inputs of one window of a batch of songs."""

    window: Window
    known_BT: Tensor  # tokens [start, known) of this level, int64
    above_BT: Tensor | None  # tokens of the level above at the window's positions, int64; None at the top
    labels_BN: Tensor  # label rows of this window, int64

    @property
    def same_conditioning(self) -> bool:
        """Whether all songs have identical conditioning: labels, lyrics and codes of the upper level."""
        return all(_equal_columns(rows).all() for rows in (self.labels_BN, self.above_BT) if rows is not None)

    @property
    def common_prefix(self) -> int:
        """Length of the prefix of known tokens that all songs share."""
        return int(_equal_columns(self.known_BT).cumprod(0).sum())


@torch.inference_mode()
def open_window(prior: Prior, inputs: WindowInputs) -> WindowDecoder:
    """Returns the decoder of a window before its prefill, with the window's conditioning computed.

    Samples with identical conditioning share one computation, broadcast over the batch.
    """
    device, songs = prior.device, len(inputs.labels_BN)
    different = slice(1 if inputs.same_conditioning else songs)
    above = None if inputs.above_BT is None else inputs.above_BT[different].to(device)
    condition = prior.condition(inputs.labels_BN[different].to(device), above)
    return WindowDecoder(prior, condition.expand(songs) if inputs.same_conditioning else condition)


def sample_window(
    decoder: WindowDecoder,
    inputs: WindowInputs,
    sampling: LevelSampling,
    noise: Noise,
    *,
    forced_BT: Tensor | None = None,
    prefill_chunk: int | None = None,
    block: int = 64,
) -> Iterator[Tensor]:
    """Yields the window's new tokens as they are drawn, int64 [B, at most `block`], in order.

    `forced_BT` are tokens of an interrupted attempt: the same steps are repeated with them, without a draw, and they
    are not yielded. Single-sequence priors can yield negative values, which `clamp_codes` replaces at the end.
    """
    device = decoder.prior.device
    shared = decoder.prior.config.lyric_positions + inputs.common_prefix if inputs.same_conditioning else 0
    return draw_codes(
        decoder,
        inputs.known_BT.to(device),
        inputs.window.new,
        sampling,
        noise,
        start=inputs.window.start,
        forced_BF=None if forced_BT is None else forced_BT.to(device),
        prefill_chunk=prefill_chunk,
        flush=block,
        shared=shared,
    )


def _equal_columns(rows_BN: Tensor) -> Tensor:
    """Returns which columns are the same in every row, bool [N]."""
    return (rows_BN == rows_BN[:1]).all(0)
