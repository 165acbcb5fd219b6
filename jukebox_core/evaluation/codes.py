"""What codes are like: how many are in use, how well they are guessed by counting, and where they stand still.

Imports no torch. Legend: T tokens of one song.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Codes = NDArray[np.integer]

_SMOOTHING = 0.5  # counted for everything that was never seen


def used_share(songs: Sequence[Codes], bins: int) -> float:
    """Returns the share of the codebook that occurs at all."""
    return len(np.unique(np.concatenate(songs))) / bins


def unigram_bits(seen: Sequence[Codes], told: Sequence[Codes], bins: int) -> float:
    """Returns the bits a token of ``told`` takes to who counted the codes of ``seen``.

    With the same songs for both it is their entropy, for all that counting knows of them.
    """
    counts = _counted(seen, bins)
    chances = counts / counts.sum()
    return float(-np.log2(chances[np.concatenate(told)]).mean())


def bigram_bits(seen: Sequence[Codes], told: Sequence[Codes], bins: int) -> float:
    """Returns the same to who counted pairs of neighbours; what follows a code rarely seen is guessed by its count."""
    pairs = np.zeros((bins, bins))
    for song_T in seen:
        np.add.at(pairs, (song_T[:-1], song_T[1:]), 1)
    counts = _counted(seen, bins)
    chances = (pairs + counts / counts.sum()) / (pairs.sum(axis=1, keepdims=True) + 1)
    taken = [-np.log2(chances[song_T[:-1], song_T[1:]]) for song_T in told]
    return float(np.concatenate(taken).mean())


def standing_share(song_T: Codes, tokens: int) -> float:
    """Returns the share of a song within runs of one code, at least ``tokens`` long."""
    edges = np.flatnonzero(np.diff(song_T)) + 1
    runs = np.diff(np.concatenate([[0], edges, [len(song_T)]]))
    return float(runs[runs >= tokens].sum() / len(song_T))


def _counted(songs: Sequence[Codes], bins: int) -> NDArray[np.float64]:
    counts: NDArray[np.float64] = np.bincount(np.concatenate(songs), minlength=bins) + np.float64(_SMOOTHING / bins)
    return counts
