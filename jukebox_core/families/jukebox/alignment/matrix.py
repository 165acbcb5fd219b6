"""Attention of one head over a whole song, from codes to characters of its lyrics (docs/upstream.md, Alignment).

Shape suffixes: B batch, T codes of a window or of the song, N lyric columns of a window, C characters of the song.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.conditioning.labels import window_row
from jukebox_core.families.jukebox.features.activations import lyric_attention
from jukebox_core.families.jukebox.features.extractor import window_condition
from jukebox_core.families.jukebox.features.lyric_prefix import LyricPrefixes
from jukebox_core.protocols import WindowConditioning
from jukebox_core.tokens.plan import window_starts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from jukebox_core.families.jukebox.alignment.heads import Head
    from jukebox_core.families.jukebox.conditioning.labels import SongLabels
    from jukebox_core.families.jukebox.model.prior import Prior

Merge = Literal["first", "mean"]


def align_codes(
    prior: Prior,
    codes_T: NDArray[np.integer],
    labels: SongLabels,
    head: Head,
    *,
    hop: int,
    code_samples: int,
    merge: Merge = "first",
    batch: int = 1,
    before_batch: Callable[[], None] | None = None,
) -> NDArray[np.float32]:
    """Returns the attention weights from each code of a song to each character of its lyrics, float32 [T, C].

    ``first`` is upstream's: a cell that several windows cover has the weight of the earliest of them, and rows do
    not sum to 1 where windows overlap. ``mean`` is the mean over the windows that cover a cell.

    Args:
        prior: the top prior, at least up to the head's layer.
        codes_T: all codes of the song's top level.
        labels: of the song, for the prior.
        head: the head.
        hop: codes that a window starts after the one before.
        code_samples: audio samples per code.
        merge: how windows that overlap are joined.
        batch: windows of one forward pass.
        before_batch: called before each forward pass.

    Raises:
        ConfigError: there are no codes.
    """
    total, context = len(codes_T), prior.config.context
    if not total:
        raise ConfigError("there are no codes to align; give at least one")
    characters = len(labels.lyric_tokens)
    sum_TC = np.zeros((total, characters), np.float32)
    count_TC = np.zeros((total, characters), np.uint16) if merge == "mean" else None
    starts = window_starts(total, context, hop) if total >= context else [0]
    if not characters:
        return sum_TC
    windows = _windows(prior, codes_T, labels, head, starts[::-1], code_samples, batch, before_batch)
    for start, indices, weights_TN in windows:
        rows = slice(start, min(start + context, total))
        seen = [column for column, index in enumerate(indices) if index >= 0]
        at = slice(indices[seen[0]], indices[seen[-1]] + 1)  # a window's characters follow each other
        found_TN = weights_TN[: rows.stop - rows.start, seen]
        if count_TC is None:
            sum_TC[rows, at] = found_TN  # from the last window to the first: earlier ones replace later ones
        else:
            sum_TC[rows, at] += found_TN
            count_TC[rows, at] += 1
    if count_TC is not None:
        sum_TC /= np.maximum(count_TC, 1)
    return sum_TC


def _windows(
    prior: Prior,
    codes_T: NDArray[np.integer],
    labels: SongLabels,
    head: Head,
    starts: list[int],
    code_samples: int,
    batch: int,
    before_batch: Callable[[], None] | None,
) -> Iterator[tuple[int, tuple[int, ...], NDArray[np.float32]]]:
    """Yields start, positions of the lyric columns in the lyrics, and weights [T, N] of each window, in this order."""
    context, device = prior.config.context, prior.body.position_PW.device
    prefixes = LyricPrefixes(prior, head.layer + 1)
    padded_T = np.pad(codes_T, (0, max(0, context - len(codes_T)))).astype(np.int64)
    for first in range(0, len(starts), batch):
        if before_batch is not None:
            before_batch()
        some = starts[first : first + batch]
        rows = [window_row(labels, prior.config, sample_length=context * code_samples, start=start) for start in some]
        codes_BT = torch.from_numpy(np.stack([padded_T[start : start + context] for start in some])).to(device)
        labels_of = [row.row for row in rows]
        condition = window_condition(prior, WindowConditioning(labels_of), device)
        prefix = prefixes.of(labels_of, condition)
        found_BTN = lyric_attention(prior, codes_BT, condition, head.layer, head.head, prefix)
        weights_BTN = found_BTN.float().cpu().numpy()
        for start, row, weights_TN in zip(some, rows, weights_BTN, strict=True):
            yield start, row.lyric_indices, weights_TN
