"""The attention head that follows the lyrics, found by measurement (docs/upstream.md, Lyrics).

Shape suffixes: B batch, H heads, T music positions, N lyric tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, attention_types

if TYPE_CHECKING:
    from torch import Tensor

    from jukebox_core.families.jukebox.config import TransformerConfig
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.training.batch import PriorBatch

LEAST_SCORE = 0.5  # of a head that follows the lyrics; heads of untrained priors have far less


@dataclass(frozen=True, slots=True)
class AlignmentHead:
    """A head, and how well it follows the lyrics: 1 at an even pace with the music, 0 not at all."""

    layer: int
    head: int
    score: float


def lyric_layers(config: TransformerConfig) -> list[int]:
    """Returns the indices of the layers that attend only to lyrics, counted from 0."""
    kinds = attention_types(config.attention_order, config.depth)
    return [layer for layer, kind in enumerate(kinds) if kind in (AttentionType.PRIME, AttentionType.CROSS)]


@torch.no_grad()
def find_alignment(prior: Prior, batch: PriorBatch) -> AlignmentHead | None:
    """Returns the head whose attention follows the lyrics best; None for a prior, or a batch, without lyrics.

    A head's score is the correlation of time with the mean position of its attention in the lyrics, times the share of
    its attention on lyrics; averaged over the items that have lyrics.
    """
    config = prior.config
    if config.lyrics is None:
        return None
    layers = lyric_layers(config.transformer)
    lyrics_BN = batch.labels_BN[:, -config.lyrics.tokens :]
    sung_B = (lyrics_BN > 0).any(1)
    if not layers or not sung_B.any():
        return None
    condition = prior.condition(batch.labels_BN, batch.upper_BU)
    found = prior.attention_weights(batch.codes_BT, condition, layers)
    present_BN = (lyrics_BN > 0).float()
    scores = []
    for layer in layers:
        for head, score in enumerate(_scores(found[layer], present_BN)[sung_B].mean(0).tolist()):
            scores.append(AlignmentHead(layer, head, score))
    return max(scores, key=lambda each: each.score)


def _scores(weights_BHTN: Tensor, present_BN: Tensor) -> Tensor:
    """Returns the score of each head, [B, H]."""
    on_words_BHTN = weights_BHTN * present_BN[:, None, None]
    mass_BHT = on_words_BHTN.sum(-1)
    places_N = torch.arange(on_words_BHTN.shape[-1], device=on_words_BHTN.device, dtype=torch.float32)
    place_BHT = (on_words_BHTN @ places_N) / mass_BHT.clamp_min(1e-9)
    time_T = torch.arange(place_BHT.shape[-1], device=place_BHT.device, dtype=torch.float32)
    time_T = time_T - time_T.mean()
    moved_BHT = place_BHT - place_BHT.mean(-1, keepdim=True)
    correlation_BH = (moved_BHT * time_T).sum(-1) / (moved_BHT.norm(dim=-1) * time_T.norm()).clamp_min(1e-9)
    score_BH: Tensor = correlation_BH * mass_BHT.mean(-1)
    return score_BH
