"""One training step of a prior, and its data: windows of codes with what the prior is told of them.

Shape suffixes: B batch, T codes, N label columns, U codes of the level above.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from jukebox_core.families.jukebox.conditioning.labels import SongLabels, label_song, window_row
from jukebox_core.families.jukebox.conditioning.vocabulary import UNKNOWN
from jukebox_core.families.jukebox.training.guided_attention import guide_loss, guided_head, pace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.datasets.windows import CodeWindow
    from jukebox_core.families.jukebox.conditioning.vocabulary import Vocabulary, VocabularyKind
    from jukebox_core.families.jukebox.config import PriorConfig
    from jukebox_core.families.jukebox.model.prior import Prior


class Windows(Protocol):
    """Windows of codes, numbered without end; `len` is an epoch's."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> CodeWindow: ...


class PriorBatch(NamedTuple):
    """What a step of a prior learns from; int64 but for the pace."""

    codes_BT: Tensor
    labels_BN: Tensor
    above_BU: Tensor | None
    pace_B2: Tensor  # how words pass (`guide.Pace`), float32; no number where there are none


class Item(NamedTuple):
    """One window of a batch, likewise."""

    codes_T: Tensor
    labels_N: Tensor
    above_U: Tensor | None
    pace_2: Tensor


class PriorStep(nn.Module):
    """A prior whose call gives the loss of a batch, in bits a token (golden README 2.4).

    Args:
        prior: is trained.
        lyric_guide: the weight of `guide_loss` while it learns; without effect on a prior that reads no lyrics.
        lyric_spread: characters by which singing may well be ahead or behind of an even pace.
    """

    def __init__(self, prior: Prior, lyric_guide: float = 0.0, lyric_spread: float = 2.0) -> None:
        super().__init__()
        self.prior = prior
        self.lyric_guide, self.lyric_spread = lyric_guide, lyric_spread
        self._guided = guided_head(prior.config) if lyric_guide else None

    def forward(self, batch: PriorBatch, _generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch, and its parts by name: bits a music token and, with lyrics, a character.

        Raises:
            LabelError: a label or a time is outside what the prior knows.
        """
        condition = self.prior.condition(batch.labels_BN, batch.above_BU)
        guided = self._guided if self.training else None
        losses = self.prior.losses(batch.codes_BT, condition, record=() if guided is None else guided[:1])
        metrics = {"bits": losses.music.detach()}
        if self.prior.config.lyrics is not None:
            metrics["lyric_bits"] = losses.lyrics.detach()
        if guided is None:
            return losses.total, metrics
        layer, head = guided
        away = guide_loss(losses.attention[layer][:, head], batch.pace_B2, spread=self.lyric_spread)
        metrics["guide_bits"] = away.detach()
        return losses.total + self.lyric_guide * away, metrics


class LabelledWindows:
    """Windows of codes with their label rows, numbered without end.

    Args:
        windows: of the prior's level.
        config: the prior.
        hop: samples of a token of its level.
        vocabularies: by kind; the prior's own must be there.
        unknown: the share of items that are told neither artist nor genre, so that the model can do without.
        seed: of their choice.
    """

    def __init__(
        self,
        windows: Windows,
        config: PriorConfig,
        hop: int,
        vocabularies: Mapping[VocabularyKind, Vocabulary],
        *,
        unknown: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._windows, self._config, self._hop = windows, config, hop
        self._vocabularies, self._unknown, self._seed = vocabularies, unknown, seed
        self._song = cache(self._labels)  # reading lyrics is slow, and a song has many windows

    def __len__(self) -> int:
        """How many windows an epoch has."""
        return len(self._windows)

    def __getitem__(self, index: int) -> Item:
        """Returns item ``index``, from 0 on without end.

        Raises:
            LabelError: an artist or genre that is not in the vocabulary, or lyrics without a known character.
        """
        window = self._windows[index]
        artist, genre = window.artist, window.genre
        if self._unknown and np.random.default_rng((self._seed, index)).random() < self._unknown:
            artist = genre = UNKNOWN
        labels = self._song(artist, genre, window.lyrics, window.total_tokens)
        length = self._config.context * self._hop
        row, lyric_indices = window_row(labels, self._config, sample_length=length, start=window.start_tokens)
        passing = pace(labels, lyric_indices, start=window.start_tokens, hop=self._hop) or (math.nan, math.nan)
        upper_T = window.upper_T if self._config.upsample is not None else None
        return Item(window.codes_T, torch.tensor(row), upper_T, torch.tensor(passing))

    def _labels(self, artist: str, genre: str, lyrics: str, tokens: int) -> SongLabels:
        return label_song(
            self._vocabularies,
            artist=artist,
            genre=genre,
            lyrics=lyrics,
            total_length=tokens * self._hop,
            offset=0,
            config=self._config,
        )


def collate(items: Sequence[Item]) -> PriorBatch:
    """Returns items side by side."""
    codes, rows, above, paces = zip(*items, strict=True)
    upper_BU = None if above[0] is None else torch.stack(above)
    return PriorBatch(torch.stack(codes), torch.stack(rows), upper_BU, torch.stack(paces))
