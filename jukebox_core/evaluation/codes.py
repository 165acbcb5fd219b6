"""Statistics of codes: codebook usage, unigram and bigram cross-entropies. Imports no torch.

Legend: T tokens of one song.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Codes = NDArray[np.integer]

_PSEUDO_COUNT = 0.5  # additive smoothing, spread over the vocabulary


def codebook_usage(songs: Sequence[Codes], vocabulary: int) -> float:
    """Returns the share of the codebook's `vocabulary` entries that occur in the songs."""
    return len(np.unique(np.concatenate(songs))) / vocabulary


def unigram_bits_per_token(train: Sequence[Codes], test: Sequence[Codes], vocabulary: int) -> float:
    """Cross-entropy in bits per token of a unigram model fitted on `train`, evaluated on `test`.

    With the same songs for both it is the unigram entropy of the codes.

    Args:
        train: Codes of songs, each [T].
        test: Codes of songs, each [T].
        vocabulary: Number of codes.
    """
    counts = _smoothed_counts(train, vocabulary)
    probabilities = counts / counts.sum()
    return float(-np.log2(probabilities[np.concatenate(test)]).mean())


def bigram_bits_per_token(train: Sequence[Codes], test: Sequence[Codes], vocabulary: int) -> float:
    """Cross-entropy in bits per token of a bigram model fitted on `train`, evaluated on `test`.

    It is interpolated with the unigram model, which gives the probabilities after a code that `train` rarely has.
    Arguments as of `unigram_bits_per_token`; the first token of a song counts only as context.
    """
    pairs = np.zeros((vocabulary, vocabulary))
    for song_T in train:
        np.add.at(pairs, (song_T[:-1], song_T[1:]), 1)
    counts = _smoothed_counts(train, vocabulary)
    probabilities = (pairs + counts / counts.sum()) / (pairs.sum(axis=1, keepdims=True) + 1)
    bits = [-np.log2(probabilities[song_T[:-1], song_T[1:]]) for song_T in test]
    return float(np.concatenate(bits).mean())


def _smoothed_counts(songs: Sequence[Codes], vocabulary: int) -> NDArray[np.float64]:
    counts: NDArray[np.float64] = np.bincount(np.concatenate(songs), minlength=vocabulary) + np.float64(
        _PSEUDO_COUNT / vocabulary
    )
    return counts
