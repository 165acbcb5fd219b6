"""One training step of a prior, and its data: windows of codes with their conditioning.

Shape suffixes: B batch, T codes, N label columns, U codes of the upper level.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from jukebox_core.families.jukebox.conditioning.labels import SongLabels, label_song, window_row
from jukebox_core.families.jukebox.conditioning.vocabulary import UNKNOWN
from jukebox_core.families.jukebox.training.batch import Item
from jukebox_core.families.jukebox.training.guided_attention import guided_attention_loss, guided_head, pace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.families.jukebox.conditioning.vocabulary import Vocabulary, VocabularyKind
    from jukebox_core.families.jukebox.config import PriorConfig
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.training.batch import PriorBatch, Windows


class PriorStep(nn.Module):
    """A prior whose call returns the loss of a batch, in bits a token (docs/upstream.md, Training).

    Args:
        prior: trained in place.
        guided_attention_weight: of `guided_attention_loss` in training mode; no effect on a prior without lyrics.
        guided_attention_sigma: characters; tolerance of that loss.
    """

    def __init__(self, prior: Prior, guided_attention_weight: float = 0.0, guided_attention_sigma: float = 2.0) -> None:
        super().__init__()
        self.prior = prior
        self.guided_attention_weight, self.guided_attention_sigma = guided_attention_weight, guided_attention_sigma
        self._guided = guided_head(prior.config) if guided_attention_weight else None

    def forward(self, batch: PriorBatch, _generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch, and its terms by name: bits a music token and, with lyrics, bits a character.

        Raises:
            LabelError: a label or a time is outside the range of the prior.
        """
        condition = self.prior.condition(batch.labels_BN, batch.upper_BU)
        guided = self._guided if self.training else None
        losses = self.prior.losses(batch.codes_BT, condition, record=() if guided is None else guided[:1])
        metrics = {"bits": losses.music.detach()}
        if self.prior.config.lyrics is not None:
            metrics["lyric_bits"] = losses.lyrics.detach()
        if guided is None:
            return losses.total, metrics
        layer, head = guided
        weights_BTN = losses.attention[layer][:, head]
        guide = guided_attention_loss(weights_BTN, batch.pace_B2, sigma=self.guided_attention_sigma)
        metrics["guide_bits"] = guide.detach()
        return losses.total + self.guided_attention_weight * guide, metrics


class LabelledWindows:
    """Windows of codes with their label rows, with one for every index from 0 on.

    Args:
        windows: of the prior's level.
        config: the prior.
        hop: samples a token of its level.
        vocabularies: by kind; the prior's own is required.
        label_dropout: share of items whose artist and genre are replaced by the unknown ones.
        seed: of the dropout.
    """

    def __init__(
        self,
        windows: Windows,
        config: PriorConfig,
        hop: int,
        vocabularies: Mapping[VocabularyKind, Vocabulary],
        *,
        label_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._windows, self._config, self._hop = windows, config, hop
        self._vocabularies, self._label_dropout, self._seed = vocabularies, label_dropout, seed
        self._song_labels = cache(self._label)  # tokenising lyrics is slow, and a song has many windows

    def __len__(self) -> int:
        """Returns the number of windows of an epoch."""
        return len(self._windows)

    def __getitem__(self, index: int) -> Item:
        """Returns item ``index``, any number from 0 on.

        Raises:
            LabelError: the artist or genre is not in the vocabulary, or the lyrics have no known character.
        """
        window = self._windows[index]
        artist, genre = window.artist, window.genre
        if self._label_dropout and np.random.default_rng((self._seed, index)).random() < self._label_dropout:
            artist = genre = UNKNOWN
        labels = self._song_labels(artist, genre, window.lyrics, window.total_tokens)
        length = self._config.context * self._hop
        row, lyric_indices = window_row(labels, self._config, sample_length=length, start=window.start_tokens)
        lyric_pace = pace(labels, lyric_indices, start=window.start_tokens, hop=self._hop) or (math.nan, math.nan)
        upper_T = window.upper_T if self._config.upsample is not None else None
        return Item(window.codes_T, torch.tensor(row), upper_T, torch.tensor(lyric_pace))

    def _label(self, artist: str, genre: str, lyrics: str, tokens: int) -> SongLabels:
        return label_song(
            self._vocabularies,
            artist=artist,
            genre=genre,
            lyrics=lyrics,
            total_length=tokens * self._hop,
            offset=0,
            config=self._config,
        )
