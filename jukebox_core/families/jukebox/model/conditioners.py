"""Conditioning of a prior: labels, timing, lyrics, and the upper level's codes (docs/upstream.md, Conditioning).

A label row has the columns ``[total_length, offset, length, artist, genre..., lyric token...]``: lengths in audio
samples, genres padded with -1. Shape suffixes: B batch, N label columns, G genres, T tokens of this level, U tokens of
the level above, N also lyric tokens, W width, C channels (of the width W, with time as the last dimension).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from jukebox_core.errors import LabelError
from jukebox_core.families.jukebox.model.convnet import StackConfig, Upsampler
from jukebox_core.families.jukebox.model.layers import LayerNorm, Projection
from jukebox_core.families.jukebox.model.streaming import Stream
from jukebox_core.families.jukebox.model.transformer import TokenTransformer

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.config import LabelConfig, TimingConfig, TransformerConfig, UpsampleConfig

TOTAL, OFFSET, LENGTH, ARTIST, FIRST_GENRE = range(5)  # columns of a label row; lyrics follow the genres


class LabelEmbedding(nn.Module):
    """Embeds artist and genres as one vector: the artist's embedding plus the sum of the genres'."""

    def __init__(self, config: LabelConfig, width: int) -> None:
        super().__init__()
        self.artist = nn.Embedding(config.artists, width)
        self.genre = nn.Embedding(config.genres, width)
        for table in (self.artist, self.genre):
            nn.init.normal_(table.weight, std=0.01)

    def forward(self, artist_B: Tensor, genres_BG: Tensor) -> Tensor:
        """Returns [B, 1, W], the input of position 0. Genres of -1 are padding and add nothing."""
        present_BG1 = (genres_BG >= 0)[..., None]
        genre_BGW: Tensor = self.genre(genres_BG.clamp(min=0)) * present_BG1
        artist_B1W: Tensor = self.artist(artist_B[:, None])
        return artist_B1W + genre_BGW.sum(dim=1, keepdim=True)


class TimingEmbedding(nn.Module):
    """Embeds the time of each token in its song: total length, absolute and relative position, each binned."""

    def __init__(self, config: TimingConfig, width: int, sample_rate: int) -> None:
        super().__init__()
        self.bins = config.bins
        self.shortest = config.min_seconds * sample_rate
        self.longest = config.max_seconds * sample_rate
        self.total = nn.Embedding(config.bins, width)
        self.absolute = nn.Embedding(config.bins, width)
        self.relative = nn.Embedding(config.bins, width)
        for table in (self.total, self.absolute, self.relative):
            nn.init.normal_(table.weight, std=0.01)

    def forward(self, labels_BN: Tensor, tokens: int) -> Tensor:
        """Returns [B, T, W] for a window of `tokens` tokens.

        Raises:
            LabelError: A total length or a position is outside the range that the model was trained on.
        """
        total_B1, start_B1, length_B1 = (labels_BN[:, column, None] for column in (TOTAL, OFFSET, LENGTH))
        total_B1, start_B1, stop_B1 = total_B1.float(), start_B1.float(), (start_B1 + length_B1).float()
        if not torch.compiler.is_compiling():  # a graph cannot raise
            self._check(total_B1, start_B1, stop_B1)
        # Bins are computed in float32, in this order of operations: another order moves tokens at a bin's edge.
        along_T = torch.arange(tokens, dtype=torch.float32, device=labels_BN.device) / tokens
        absolute_BT = start_B1 + (stop_B1 - start_B1) * along_T
        begin_B1, end_B1 = start_B1 / total_B1, (stop_B1 / total_B1).clamp(max=1.0)
        relative_BT = begin_B1 + (end_B1 - begin_B1) * along_T
        total_B1W: Tensor = self.total(self._bin(total_B1, self.shortest, self.longest))
        absolute_BTW: Tensor = self.absolute(self._bin(absolute_BT, 0.0, self.longest))
        relative_BTW: Tensor = self.relative(self._bin(relative_BT, 0.0, 1.0))
        return total_B1W + absolute_BTW + relative_BTW

    def _bin(self, position: Tensor, first: float, last: float) -> Tensor:
        return (self.bins * ((position - first) / (last - first))).floor().long()

    def _check(self, total_B1: Tensor, start_B1: Tensor, stop_B1: Tensor) -> None:
        def require(name: str, rule: str, value_B1: Tensor, valid_B1: Tensor) -> None:
            if not valid_B1.all():
                wrong = int(value_B1[~valid_B1][0])
                raise LabelError(f"{name} is {wrong} audio samples; it must be {rule} for this model")

        shortest, longest = self.shortest, self.longest
        inside = f"at least {shortest:.0f} and below {longest:.0f}"
        require("total length", inside, total_B1, (total_B1 >= shortest) & (total_B1 < longest))
        require("offset", "at least 0 and below the total length", start_B1, (start_B1 >= 0) & (start_B1 < total_B1))
        require("end of the window", f"at most {longest:.0f}", stop_B1, stop_B1 <= longest)


class CodeConditioner(nn.Module):
    """Upsamples the codes of the level above to this level's rate: one vector for each token of this level."""

    def __init__(self, config: UpsampleConfig, width: int, *, bins: int, times: int, stride: int) -> None:
        super().__init__()
        stack = StackConfig(
            width=config.width,
            depth=config.depth,
            hidden_width=int(config.hidden_factor * config.width),
            growth=config.dilation_growth,
            cycle=config.dilation_cycle,
            scale=config.depth**-0.5 if config.residual_scale else 1.0,
        )
        self.embedding = nn.Embedding(bins, width)
        self.upsampler = Upsampler(width, width, times=times, stride=stride, stack=stack)
        self.norm = LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, codes_BU: Tensor) -> Tensor:
        """Returns [B, T, W]: `stride**times` vectors for each code above."""
        x_BUC = self.embedding(codes_BU)
        if torch.compiler.is_compiling() or (torch.is_grad_enabled() and x_BUC.requires_grad):
            return cast("Tensor", self.norm(self.upsampler(x_BUC.transpose(1, 2)).transpose(1, 2)))
        rows = [self.norm(Stream([self.upsampler]).feed(x_UC, last=True).float()) for x_UC in x_BUC]
        return rows[0][None] if len(rows) == 1 else torch.stack(rows)  # saves a copy of 60 MB a window


class LyricEncoder(nn.Module):
    """Encodes lyrics for the cross attention of the decoder: a causal transformer, a projection and a norm.

    It computes in float32, in every precision of the decoder.
    """

    def __init__(self, config: TransformerConfig, *, tokens: int, characters: int, width: int) -> None:
        super().__init__()
        self.start_1W = nn.Parameter(torch.empty(1, config.width))
        self.body = TokenTransformer(config, vocabulary=characters, positions=tokens)
        self.project = Projection(config.width, width)
        self.norm = LayerNorm(width)
        self.output = nn.Linear(width, characters, bias=False)  # predicts the lyrics, for the training loss
        nn.init.normal_(self.start_1W, std=0.01)

    def forward(self, lyrics_BN: Tensor) -> Tensor:
        """Returns [B, N, W] of the decoder's width; vector n depends on the characters before n."""
        start_B1W = self.start_1W.expand(lyrics_BN.shape[0], 1, -1)
        features_BNW, _ = self.body(lyrics_BN, start_B1W)
        return cast("Tensor", self.norm(self.project(features_BNW)))
