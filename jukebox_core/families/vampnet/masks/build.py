"""Masks of their parts, in the order of upstream's interface.

Random, prefix and suffix, periodic, onsets; then what upstream has apart from these: beats, times, drawn tokens; then
dropout, and codebooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.families.vampnet.masks import parts
from jukebox_core.families.vampnet.masks.beats import beat_mask
from jukebox_core.families.vampnet.masks.drawn import grid_of

if TYPE_CHECKING:
    from torch import Tensor

    from jukebox_core.families.vampnet.config import CodebooksConfig, CodecConfig
    from jukebox_core.families.vampnet.masks.config import MaskConfig
    from jukebox_core.families.vampnet.masks.draws import MaskDraws


def build_mask(
    shape: parts.Shape,
    config: MaskConfig,
    codec: CodebooksConfig | CodecConfig,
    draws: MaskDraws,
    *,
    parity: bool = False,
) -> Tensor:
    """Returns the mask [B, K, T] of a grid, before it is stretched.

    Args:
        shape: of the grid.
        config: its parts; onsets, beats and drawn tokens are in it (`jukebox_core.families.vampnet.masks.found`).
        codec: sample rate and hop.
        draws: source of random numbers.
        parity: lose onsets and beats near the beginning, as upstream does.

    Raises:
        ConfigError: a beat or a time is outside the music, or a drawn mask has another shape.
    """
    prefix, suffix = codec.tokens_of(config.prefix_seconds), codec.tokens_of(config.suffix_seconds)
    mask_BKT = parts.linear_random(shape, config.random, draws)
    mask_BKT = mask_BKT & parts.inpaint(shape, prefix, suffix)
    mask_BKT = mask_BKT & parts.periodic(shape, config.period, config.period_width, draws, roll=True)
    if config.onset_width:
        mask_BKT = mask_BKT & parts.onsets(shape, config.onsets, config.onset_width, parity=parity)
    if config.beats.used:
        mask_BKT = mask_BKT & beat_mask(shape, config.beats, codec, draws, parity=parity)
    if config.ranges:
        spans = [parts.seconds_span(shape, each.start, each.stop, codec) for each in config.ranges]
        mask_BKT = mask_BKT & torch.stack(spans).any(0)
    if config.drawn:
        mask_BKT = mask_BKT & torch.from_numpy(grid_of(config.drawn, *shape[1:]))
    mask_BKT = parts.dropout(mask_BKT, config.dropout, draws)
    mask_BKT = parts.keep_books(mask_BKT, config.keep_codebooks)
    if config.upper_codebook_mask is None:
        return mask_BKT
    return parts.mask_books(mask_BKT, config.upper_codebook_mask)
