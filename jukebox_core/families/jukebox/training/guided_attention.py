"""Guided attention: a loss that makes one head attend to the lyrics that are sung (Tachibana et al. 2018, section 3.3).

Without it, a prior learns only after very many steps that lyrics and music progress together. The loss assumes an even
pace, as the choice of a window's lyrics does (docs/upstream.md, Lyrics), and grows with the distance of the attention
from it.

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
    """Position in a window's lyric columns as a linear function of the token, if the lyrics pass evenly."""

    first: float  # the column sung at the window's first token; may lie outside the window
    step: float  # columns a token


def pace(labels: SongLabels, indices: Sequence[int], *, start: int, hop: int) -> Pace | None:
    """Returns the pace of a window, or None for a song without lyrics.

    Args:
        labels: the song's.
        indices: the place in the lyrics of each lyric column, -1 for padding.
        start: index of the window's first token, counted from the start of the music.
        hop: samples a token.
    """
    seen = [column for column, index in enumerate(indices) if index >= 0]
    if not seen:
        return None
    characters = len(labels.lyric_tokens) / labels.total_length  # of a sample
    place = characters * (labels.offset + start * hop)
    return Pace(place - indices[seen[0]] + seen[0], characters * hop)


def guided_head(config: PriorConfig) -> tuple[int, int] | None:
    """Returns the guided layer and head: those of the model's settings, else the first of the last layer on lyrics.

    None for a prior without lyrics.

    Raises:
        ConfigError: the settings name a layer that does not attend to lyrics, or a head that the layer does not have.
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
            f"{where}.alignment_layer is {layer}, but guided attention needs a layer that attends to lyrics alone, and "
            f"{f'layer {layer} does not' if layers else 'none of this model does'}; {choice}"
        )
    if not 0 <= head < heads:
        raise ConfigError(f"{where}.alignment_head is {head}; choose from 0 to {heads - 1}, or null for the first")
    return (layers[-1] if layer is None else layer, head) if layers else None


def guided_attention_loss(weights_BTN: Tensor, pace_B2: Tensor, *, sigma: float) -> Tensor:
    """Returns the negative log2 of one head's attention near the sung lyrics, a scalar tensor; 0 without lyrics.

    Args:
        weights_BTN: its attention to the lyric positions. Position n holds the characters before n, so that
            character n, sung from n to n + 1, is known at position n + 1.
        pace_B2: `Pace` of each item; NaN for an item without lyrics.
        sigma: characters; standard deviation of the tolerated distance from the pace.
    """
    sung_B = pace_B2.isfinite().all(1)
    if not sung_B.any():
        return weights_BTN.new_zeros(())
    weights_BTN, pace_B2 = weights_BTN[sung_B], pace_B2[sung_B]
    _, music, lyrics = weights_BTN.shape
    time_T = torch.arange(music, device=weights_BTN.device)
    place_BT = pace_B2[:, :1] + pace_B2[:, 1:] * time_T
    away_BTN = torch.arange(lyrics, device=weights_BTN.device) - (place_BT[..., None] + 0.5)
    near_BT = (weights_BTN * torch.exp(-away_BTN.square() / (2 * sigma**2))).sum(-1)
    return -near_BT.clamp_min(1e-6).log().mean() / math.log(2)
