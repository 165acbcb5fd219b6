"""The mask of upstream's interface: random, prefix and suffix, periodic, onsets, dropout, codebooks, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jukebox_core.base.checks import require
from jukebox_core.families.vampnet.masks import parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from jukebox_core.families.vampnet.config import CodecConfig
    from jukebox_core.families.vampnet.masks.draws import MaskDraws


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskConfig:
    """Parts of a mask; what one of them keeps is kept, but for codebooks from `upper_codebook_mask` on."""

    random: float = 1.0  # probability that a token is generated
    prefix_seconds: float = 0.0  # kept at the beginning
    suffix_seconds: float = 0.0  # kept at the end
    period: int = 7  # every how-manieth step is kept; 0: none
    period_width: int = 1  # steps that are kept at once
    onset_width: int = 0  # steps on either side of each onset that are kept
    dropout: float = 0.0  # share of steps that are generated whatever else keeps them
    keep_codebooks: int = 0  # the first codebooks are kept
    upper_codebook_mask: int = 3  # codebooks from this one on are generated, whatever else keeps them

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("random", "dropout"):
            require(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}; it must be within 0 to 1")
        for name in ("prefix_seconds", "suffix_seconds", "period", "onset_width", "keep_codebooks"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative")
        require(self.period_width >= 1, f"period_width is {self.period_width}; it must be at least 1")
        require(
            self.upper_codebook_mask >= 0, f"upper_codebook_mask is {self.upper_codebook_mask}; it cannot be negative"
        )


def build_mask(
    shape: parts.Shape,
    config: MaskConfig,
    codec: CodecConfig,
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
