"""The mask of upstream's interface: random, prefix and suffix, periodic, onsets, dropout, codebooks, in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.families.vampnet.masks import parts

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    onsets: Sequence[int] = (),
    parity: bool = False,
) -> Tensor:
    """Returns the mask [B, K, T] of a grid.

    Args:
        shape: of the grid.
        config: its parts.
        codec: sample rate and hop.
        draws: source of random numbers.
        onsets: steps at which something begins, where `onset_width` keeps them.
        parity: lose onsets near the beginning, as upstream does.
    """
    prefix, suffix = codec.tokens_of(config.prefix_seconds), codec.tokens_of(config.suffix_seconds)
    mask_BKT = parts.linear_random(shape, config.random, draws)
    mask_BKT = mask_BKT & parts.inpaint(shape, prefix, suffix)
    mask_BKT = mask_BKT & parts.periodic(shape, config.period, config.period_width, draws, roll=True)
    if config.onset_width:
        mask_BKT = mask_BKT & parts.onsets(shape, onsets, config.onset_width, parity=parity)
    mask_BKT = parts.dropout(mask_BKT, config.dropout, draws)
    mask_BKT = parts.keep_books(mask_BKT, config.keep_codebooks)
    return parts.mask_books(mask_BKT, config.upper_codebook_mask)
