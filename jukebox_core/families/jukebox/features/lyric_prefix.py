"""Lyric positions of single-sequence models, computed once, for all windows with the same lyrics.

They come before the music, and no position sees those after it: keys and values of the lyric positions depend on the
labels and the lyrics alone, not on codes and timing. Summary layers treat the last row of a sequence differently, so
models with them compute whole sequences.

Shape suffixes: B batch, N lyric positions or label columns, T music positions, W width, H heads, D head width, 2 keys
and values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name

from jukebox_core.families.jukebox.model.attention import SelfAttention
from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, attention_types
from jukebox_core.families.jukebox.model.conditioners import ARTIST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Condition, Prior

SUMMARIES = {AttentionType.SUMMARY, AttentionType.SPREAD_SUMMARY}  # the last row of a sequence is no key


class LyricPrefix(NamedTuple):
    """Keys and values of the lyric positions in each layer, [2, 1, H, N, D], from the first layer on."""

    layers: tuple[Tensor, ...]


class LyricPrefixes:
    """The prefix of the labels that came last: windows of one song follow each other, and so do those of a folder."""

    def __init__(self, prior: Prior, layers: int) -> None:
        """Prepares prefixes of the first `layers` layers."""
        kinds = attention_types(prior.config.transformer.attention_order, prior.config.transformer.depth)
        self._prior, self._layers = prior, layers
        self._usable = prior.config.lyric_positions > 0 and not SUMMARIES & set(kinds)
        self._last: tuple[tuple[int, ...], LyricPrefix] | None = None

    def of(self, rows: Sequence[Sequence[int]], condition: Condition) -> LyricPrefix | None:
        """Returns the prefix of a batch of windows; None if they differ in it, or the model has none.

        Args:
            rows: label rows of the windows.
            condition: of the same windows.
        """
        if not self._usable:
            return None
        first, *others = (tuple(row[ARTIST:]) for row in rows)
        if any(other != first for other in others):
            return None
        last = self._last
        if last is None or last[0] != first:
            last = self._last = (first, lyric_prefix(self._prior, condition.first(), self._layers))
        return last[1]


@torch.no_grad()
def lyric_prefix(prior: Prior, condition: Condition, layers: int) -> LyricPrefix:
    """Returns the prefix of one window, whose condition is a batch of one, in the first `layers` layers."""
    config, body, lyrics_1N = prior.config, prior.body, condition.lyrics_BN
    assert lyrics_1N is not None
    lyrics, found = config.lyric_positions, []
    x_1NW = torch.cat([condition.start_B1W, body.embedding(lyrics_1N[:, :-1])], dim=1) + body.position_PW[:lyrics]
    columns = config.positions // (config.transformer.blocks or config.positions)
    x_1NW = F.pad(x_1NW.to(prior.compute_dtype), (0, 0, 0, -lyrics % columns))
    for block in body.transformer.typed_blocks[:layers]:
        assert isinstance(block.attention, SelfAttention)
        found.append(block.attention.split(block.norm_attention(x_1NW))[1][..., :lyrics, :])
        x_1NW, _ = block(x_1NW)
    return LyricPrefix(tuple(found))
