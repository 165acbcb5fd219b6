"""Masks around beats, whose times are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.base.checks import require
from jukebox_core.families.vampnet.masks.parts import Shape, _around

if TYPE_CHECKING:
    from torch import Tensor

    from jukebox_core.families.vampnet.config import CodebooksConfig, CodecConfig
    from jukebox_core.families.vampnet.masks.config import BeatConfig
    from jukebox_core.families.vampnet.masks.draws import MaskDraws


def beat_mask(
    shape: Shape,
    config: BeatConfig,
    codec: CodebooksConfig | CodecConfig,
    draws: MaskDraws,
    *,
    parity: bool = False,
) -> Tensor:
    """Returns the mask [B, K, T] that keeps what is around beats.

    Args:
        shape: of the grid.
        config: the beats, and which of them are kept.
        codec: sample rate and hop.
        draws: source of random numbers; upbeats first.
        parity: lose spans that begin before the music, as upstream does.

    Raises:
        ConfigError: a beat lies outside the music.
    """
    end = codec.seconds_of(shape[2])
    for at in (*config.times, *config.bars):
        require(0 <= at <= end, f"a beat at {at:g} s is not within the music, 0 to {end:.3f} s; correct the beats")
    first_of_bars = [codec.tokens_of(at) for at in config.bars]
    others = [at for at in map(codec.tokens_of, config.times) if at not in first_of_bars]
    before, after = codec.tokens_of(config.before_seconds), codec.tokens_of(config.after_seconds)
    near_T = torch.zeros(shape[2], dtype=torch.bool)
    chosen = (others[:: config.every] if config.upbeats else []) + (
        first_of_bars[:: config.every_downbeat] if config.downbeats else []
    )
    for at in chosen:
        around = _around(at, before, after, parity=parity)
        near_T[around] = draws.bernoulli(torch.full_like(near_T[around], 1 - config.dropout, dtype=torch.float32))
    return (near_T if config.invert else ~near_T).expand(shape)
