"""Guided attention: shows the head that is to read the lyrics about where the music is in them.

Left alone, a prior finds out only after very many steps that words pass with the music. The guide says so from the
start: words are taken to pass evenly, as the choice of a window's lyrics takes them to (golden README 2.6), and the
further from there a head looks, the more it costs (Tachibana et al. 2018, section 3.3, for speech).

Shape suffixes: B batch, T music positions, N lyric tokens.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.training.alignment_head import lyric_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from jukebox_core.families.jukebox.conditioning.labels import SongLabels
    from jukebox_core.families.jukebox.config import PriorConfig


class Pace(NamedTuple):
    """Where in a window's lyric columns the music is, if words pass evenly."""

    first: float  # the column that is sung at the window's beginning; what is not in the window counts on
    step: float  # columns that a code takes


def pace(labels: SongLabels, indices: Sequence[int], *, start: int, hop: int) -> Pace | None:
    """Returns the pace of a window, or None for a song without words.

    Args:
        labels: the song's.
        indices: the place in the lyrics of each lyric column, -1 for padding.
        start: the window's first token, from where the music starts.
        hop: samples of a token.
    """
    seen = [column for column, index in enumerate(indices) if index >= 0]
    if not seen:
        return None
    characters = len(labels.lyric_tokens) / labels.total_length  # of a sample
    place = characters * (labels.offset + start * hop)
    return Pace(place - indices[seen[0]] + seen[0], characters * hop)


def guided_head(config: PriorConfig) -> tuple[int, int] | None:
    """Returns layer and head that are guided: those that the model names, else the first of the last layer for lyrics.

    None for a prior that reads no lyrics.

    Raises:
        ConfigError: the model names a layer that does not attend to lyrics, or a head that the layer does not have.
    """
    lyrics = config.lyrics
    if lyrics is None:
        return None
    layers, heads = lyric_layers(config.transformer), config.transformer.heads
    layer, head = lyrics.alignment_layer, lyrics.alignment_head or 0
    where = f"model.network.priors.level_{config.level}.lyrics"
    if layer is not None and layer not in layers:
        choice = f"choose {', '.join(map(str, layers))}, or null for the last of these" if layers else "set it to null"
        raise ConfigError(
            f"{where}.alignment_layer is {layer}, but the guide needs a layer that attends to lyrics alone, and "
            f"{f'layer {layer} does not' if layers else 'none of this model does'}; {choice}"
        )
    if not 0 <= head < heads:
        raise ConfigError(f"{where}.alignment_head is {head}; choose from 0 to {heads - 1}, or null for the first")
    return (layers[-1] if layer is None else layer, head) if layers else None


def guide_loss(weights_BTN: Tensor, pace_B2: Tensor, *, spread: float) -> Tensor:
    """Returns the bits by which one head's attention is away from the words sung, 0-dimensional; 0 without words.

    Args:
        weights_BTN: its attention to the lyric positions. Position n has read the characters before n, so that
            character n, sung from n to n + 1, is known to position n + 1.
        pace_B2: each item's `Pace`; no number for an item without words.
        spread: characters by which singing may well be ahead or behind.
    """
    sung_B = pace_B2.isfinite().all(1)
    if not sung_B.any():
        return weights_BTN.new_zeros(())
    weights_BTN, pace_B2 = weights_BTN[sung_B], pace_B2[sung_B]
    _, music, lyrics = weights_BTN.shape
    time_T = torch.arange(music, device=weights_BTN.device)
    place_BT = pace_B2[:, :1] + pace_B2[:, 1:] * time_T
    away_BTN = torch.arange(lyrics, device=weights_BTN.device) - (place_BT[..., None] + 0.5)
    near_BT = (weights_BTN * torch.exp(-away_BTN.square() / (2 * spread**2))).sum(-1)
    return -near_BT.clamp_min(1e-6).log().mean() / math.log(2)
