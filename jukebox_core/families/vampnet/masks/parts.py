"""The parts of masks. A mask is a boolean grid [B, K, T]: true tokens are generated, false ones are kept.

Parts combine by ``&``: what one of them keeps is kept. Legend: B items, K codebooks, T time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jukebox_core.base.checks import require

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jukebox_core.families.vampnet.config import CodebooksConfig, CodecConfig
    from jukebox_core.families.vampnet.masks.draws import MaskDraws

Shape = tuple[int, int, int]
_LEAST = 1e-10


def gamma(ratio: Tensor) -> Tensor:
    """Returns the share of tokens that are masked at `ratio` of the way from all to none, in float32."""
    return (ratio * math.pi / 2).cos().clamp(_LEAST, 1.0)


def linear_random(shape: Shape, probability: float | Tensor, draws: MaskDraws) -> Tensor:
    """Masks each token with a probability, one for all or of each item, [B, 1, 1]."""
    return draws.bernoulli(torch.as_tensor(probability, dtype=torch.float32).expand(shape))


def random(shape: Shape, ratio: float | Tensor, draws: MaskDraws) -> Tensor:
    """Masks each token with the probability gamma(ratio), as training does; the ratio may be of each item, [B]."""
    return linear_random(shape, gamma(torch.as_tensor(ratio, dtype=torch.float32)).reshape(-1, 1, 1), draws)


def inpaint(shape: Shape, prefix: int, suffix: int) -> Tensor:
    """Keeps the first `prefix` and the last `suffix` steps."""
    at = torch.arange(shape[2])
    return ((at >= prefix) & (at < shape[2] - suffix)).expand(shape)


def span(shape: Shape, start: int, stop: int) -> Tensor:
    """Masks the steps [start, stop) alone."""
    at = torch.arange(shape[2])
    return ((at >= start) & (at < stop)).expand(shape)


def seconds_span(shape: Shape, start: float, stop: float, codec: CodebooksConfig | CodecConfig) -> Tensor:
    """Masks all steps that sound within [start, stop), in seconds, alone.

    Raises:
        ConfigError: the times are outside the music.
    """
    end = codec.seconds_of(shape[2])
    require(0 <= start < stop, f"start is {start:g} s and stop {stop:g} s; they must rise within 0 to {end:.3f} s")
    require(
        stop <= end, f"stop is {stop:g} s, but the music ends at {end:.3f} s; they must rise within 0 to {end:.3f} s"
    )
    return span(shape, math.floor(start * codec.sample_rate / codec.hop), codec.tokens_of(stop))


def periodic(shape: Shape, period: int, width: int, draws: MaskDraws, *, roll: bool = False) -> Tensor:
    """Keeps every `period`-th step, and `width` // 2 steps on either side of it; an even width is one wider.

    A period of 0 keeps nothing. Upstream draws and discards a number for each step that it keeps; so does this, so that
    later draws are the same.

    Args:
        shape: of the grid.
        period: steps from one that is kept to the next.
        width: steps that are kept.
        draws: source of random numbers.
        roll: move everything in time, around the end, by a random number of steps below the period.
    """
    mask_BKT = torch.ones(shape, dtype=torch.bool)
    if period == 0:
        return mask_BKT
    steps, half = shape[2], width // 2
    for item in range(shape[0]):
        for at in range(0, steps, period):
            first, stop = max(0, at - half), min(steps - 1, at + half) + 1
            draws.bernoulli(torch.ones(stop - first))
            mask_BKT[item, :, first:stop] = False
    return mask_BKT.roll(draws.integers(period, 1)[0], 2) if roll else mask_BKT


def onsets(shape: Shape, frames: Iterable[int], width: int, *, parity: bool = False) -> Tensor:
    """Keeps `width` steps before each onset, and as many from it on.

    Args:
        shape: of the grid.
        frames: steps at which something begins.
        width: steps on either side; 0 keeps nothing.
        parity: lose onsets closer than `width` to the beginning, as upstream does.
    """
    mask_T = torch.ones(shape[2], dtype=torch.bool)
    for frame in frames:
        mask_T[_around(frame, width, width, parity=parity)] = False
    return mask_T.expand(shape)


def dropout(mask_BKT: Tensor, share: float, draws: MaskDraws) -> Tensor:
    """Masks a share of all steps, in every codebook and item; steps may be drawn twice, so that there are fewer."""
    steps = mask_BKT.shape[2]
    dropped = draws.integers(steps, int(steps * share))
    mask_BKT = mask_BKT.clone()
    mask_BKT[:, :, list(dropped)] = True
    return mask_BKT


def keep_books(mask_BKT: Tensor, count: int) -> Tensor:
    """Keeps the first `count` codebooks."""
    return mask_BKT & (torch.arange(mask_BKT.shape[1]) >= count)[:, None]


def mask_books(mask_BKT: Tensor, first: int) -> Tensor:
    """Masks the codebooks from `first` on."""
    return mask_BKT | (torch.arange(mask_BKT.shape[1]) >= first)[:, None]


def stretched(codes_BKT: Tensor, mask_BKT: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Repeats each step `factor` times and masks all repetitions: the music is slowed down."""
    require(factor >= 1, f"the stretch factor is {factor}; it must be at least 1")
    if factor == 1:
        return codes_BKT, mask_BKT
    codes_BKT, mask_BKT = (each.repeat_interleave(factor, dim=2) for each in (codes_BKT, mask_BKT))
    return codes_BKT, mask_BKT | (torch.arange(mask_BKT.shape[2]) % factor != 0)


def apply(codes_BKT: Tensor, mask_BKT: Tensor, mask_id: int) -> Tensor:
    """Returns codes with the id of the mask where tokens are generated."""
    return codes_BKT.masked_fill(mask_BKT, mask_id)


def _around(at: int, before: int, after: int, *, parity: bool) -> slice:
    """Returns the steps around `at`; in parity a negative start counts from the end."""
    return slice(at - before if parity else max(0, at - before), at + after)
