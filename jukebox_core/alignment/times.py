"""From a matrix of weights to times: of characters, words and lines (docs/alignment.md). Imports no torch.

Column j of a matrix is about character j - 1: a model that predicts a text reads a start symbol first. So the first
column is about none, and the last character has no column of its own. Ties go to the smallest index.

Shape suffixes: R rows (codes of the music), C columns (characters of the text).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Weights = NDArray[np.float32]

_SAME_END = 1.0  # seconds: a song may end a little after its last code
_NEAR = 2  # characters on either side of the path
_LONGEST_LINE = 60  # characters: longer ones are broken between words


class Statistics(NamedTuple):
    """What each column and each row of a matrix attends to; -1 where there is nothing."""

    peak_row: NDArray[np.int64]  # [C], row of the largest weight of a column
    mass: NDArray[np.float64]  # [C], sum of a column
    centroid_row: NDArray[np.float64]  # [C], mean row, weighted
    row_argmax: NDArray[np.int64]  # [R], column of the largest weight of a row


def statistics(weights_RC: Weights) -> Statistics:
    """Returns the statistics of a matrix, computed in double precision."""
    exact_RC = weights_RC.astype(np.float64)
    rows, columns = exact_RC.shape
    mass_C = exact_RC.sum(axis=0)
    if not columns or not rows:
        return Statistics(np.full(columns, -1), mass_C, np.full(columns, -1.0), np.full(rows, -1))
    attended_C = mass_C > 0
    centroid_C = (np.arange(rows) @ exact_RC) / np.where(attended_C, mass_C, 1)
    return Statistics(
        peak_row=np.where(attended_C, exact_RC.argmax(axis=0), -1),
        mass=mass_C,
        centroid_row=np.where(attended_C, centroid_C, -1.0),
        row_argmax=np.where(exact_RC.any(axis=1), exact_RC.argmax(axis=1), -1),
    )


def monotone_path(weights_RC: Weights) -> NDArray[np.int64]:
    """Returns a column for each row, [R]: the non-decreasing sequence with the largest sum of weights.

    It may start anywhere and jump any distance ahead.
    """
    rows, columns = weights_RC.shape
    if not columns:
        return np.full(rows, -1)
    # Row by row, the best sum of a sequence that ends in a column is that column's weight plus the best sum so far over
    # columns up to it. `record` has a bit where that best sum is reached for the first time: enough to walk back.
    record = np.empty((rows, -(-columns // 8)), np.uint8)
    best_C = np.zeros(columns)
    for row in range(rows):
        highest_C = np.maximum.accumulate(best_C)
        rises_C = np.empty(columns, bool)
        rises_C[0] = True
        rises_C[1:] = highest_C[1:] > highest_C[:-1]
        record[row] = np.packbits(rises_C)
        best_C = highest_C + weights_RC[row].astype(np.float64)
    path = np.empty(rows, np.int64)
    path[-1] = best_C.argmax()
    for row in range(rows - 1, 0, -1):
        rises_C = np.unpackbits(record[row], count=columns)
        path[row - 1] = np.flatnonzero(rises_C[: path[row] + 1])[-1]
    return path


def normalised(weights_RC: Weights) -> Weights:
    """Returns the matrix with rows that sum to 1; rows of zeros stay."""
    sums_R1 = weights_RC.sum(axis=1, keepdims=True, dtype=np.float64)
    return (weights_RC / np.where(sums_R1 > 0, sums_R1, 1)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Timed:
    """A piece of a text with its time in the music."""

    text: str
    first: int  # characters [first, stop) of the text
    stop: int
    start: float  # seconds from the start of the music
    end: float
    estimated: bool = False  # no row belongs to it: its time lies between those of its neighbours


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """A text in time with music."""

    text: str  # as the model reads it
    weights: Weights  # [R, C], a row for each code, a column for each character
    row_seconds: float  # duration of a row
    offset_seconds: float = 0.0  # start of the music in its song
    song_seconds: float | None = None  # length of that song; None: the music ends with it

    def words(self) -> list[Timed]:
        """Returns every word that the music reaches, with its time; words are runs of characters that are not blank."""
        return self._timed(word_spans(self.text))

    def characters(self) -> list[Timed]:
        """Returns every character that the music reaches, with its time, blanks included."""
        return self._timed([(at, at + 1) for at in range(len(self.text))])

    def lines(self) -> list[Timed]:
        """Returns every line of the text, from its first word to its last; long lines are broken between words."""
        words, made = self.words(), []
        for first, stop in line_spans(self.text):
            own = [word for word in words if first <= word.first < stop]
            if own:
                certain = [word for word in own if not word.estimated] or own
                text = self.text[own[0].first : own[-1].stop]
                estimated = all(word.estimated for word in own)
                begin, end = own[0].first, own[-1].stop
                made.append(Timed(text, begin, end, min(own[0].start, certain[0].start), own[-1].end, estimated))
        return made

    def focus(self) -> float:
        """Returns how well the weights follow the text forwards, from -1 to 1; below 0.3 times are noise.

        It is the share of a row's weight within two characters of the path that never goes back, less that share for
        the path through the rows in reverse order: a head that rests on one character, or on none, has 0.
        """
        shares_RC = normalised(self.weights)
        shares_RC = shares_RC[shares_RC.any(axis=1)]
        if not len(shares_RC):
            return 0.0
        return _share_near_path(shares_RC) - _share_near_path(shares_RC[::-1])

    def path(self) -> NDArray[np.int64]:
        """Returns the column of each row, [R]: the monotone path over rows that sum to 1.

        A head may rest on one column where a song begins or ends, because its windows of the text do not move there.
        The rows until it first moves are spread over the characters before it, and those after its last move over the
        characters after it, if the music begins or ends with its song.
        """
        path, attended = monotone_path(normalised(self.weights)), np.flatnonzero(self.weights.any(axis=0))
        if not len(attended):
            return path
        low, high = max(1, int(attended[0])), min(len(self.text), int(attended[-1]) + 1)
        end = self.offset_seconds + len(path) * self.row_seconds
        if self.offset_seconds == 0 and path[0] > low:
            resting = int((path == path[0]).sum())
            path[:resting] = np.linspace(low, path[0] + 1, resting, endpoint=False)
        if (self.song_seconds is None or self.song_seconds - end < _SAME_END) and path[-1] < high:
            resting = int((path == path[-1]).sum())
            path[-resting:] = np.linspace(path[-1], high + 1, resting, endpoint=False)
        return path

    def _timed(self, spans: Sequence[tuple[int, int]]) -> list[Timed]:
        attended = np.flatnonzero(self.weights.any(axis=0))
        if not len(attended):
            return []
        reached = [(first, stop) for first, stop in spans if stop > attended[0] - 1 and first <= attended[-1]]
        path = self.path()
        rows = [rows_of(path, first, stop) for first, stop in reached]
        seconds, timed = self.row_seconds, []
        for (first, stop), (start, end), known in zip(reached, _filled(reached, rows, len(path)), rows, strict=True):
            text = self.text[first:stop]
            timed.append(Timed(text, first, stop, start * seconds, end * seconds, estimated=known is None))
        return timed


def _share_near_path(shares_RC: Weights) -> float:
    """Returns the mean share of a row's weight near the monotone path."""
    path_R, rows_R = monotone_path(shares_RC), np.arange(len(shares_RC))
    sums_RC = np.pad(shares_RC.astype(np.float64), ((0, 0), (1, 0))).cumsum(axis=1)
    above_R = np.minimum(path_R + _NEAR + 1, shares_RC.shape[1])
    return float((sums_RC[rows_R, above_R] - sums_RC[rows_R, np.maximum(path_R - _NEAR, 0)]).mean())


def rows_of(path: NDArray[np.int64], first: int, stop: int) -> tuple[int, int] | None:
    """Returns the rows [start, end) in which a path is at characters [first, stop); None if it skips them."""
    start, end = np.searchsorted(path, (first + 1, stop + 1))  # the column of a character is the one after its own
    return (int(start), int(end)) if end > start else None


def word_spans(text: str) -> list[tuple[int, int]]:
    """Returns first character and one past the last of every word."""
    return [found.span() for found in re.finditer(r"\S+", text)]


def line_spans(text: str) -> list[tuple[int, int]]:
    """Returns the span of every line that has words; lines longer than 60 characters are broken between words."""
    return [part for found in re.finditer(r"[^\n]+", text) for part in _broken(text, *found.span())]


def _broken(text: str, first: int, stop: int) -> Iterator[tuple[int, int]]:
    words = [(first + begin, first + end) for begin, end in word_spans(text[first:stop])]
    parts = -(-(stop - first) // _LONGEST_LINE)
    goal = (stop - first) / parts
    at = 0
    while at < len(words):
        begin = words[at][0]
        last = at
        while last + 1 < len(words) and words[last + 1][1] - begin <= goal + _LONGEST_LINE / 6:
            last += 1
        yield begin, words[last][1]
        at = last + 1


def _filled(
    spans: Sequence[tuple[int, int]], rows: Sequence[tuple[int, int] | None], total: int
) -> Iterator[tuple[float, float]]:
    """Yields start and end of each piece, in rows: between known ones, starts follow the places in the text."""
    known = [(spans[at][0], float(own[0])) for at, own in enumerate(rows) if own is not None]
    last = max((own[1] for own in rows if own is not None), default=0)
    begin, stop = (0.0, 0.0), (float(spans[-1][1]) if spans else 0.0, float(total))
    anchors = [
        begin,
        *known,
        *([(spans[-1][1], float(max(last, known[-1][1])))] if known and rows[-1] is not None else []),
    ]
    places, times = zip(*anchors, stop, strict=True)
    starts = np.interp([first for first, _ in spans], places, times)
    for at, own in enumerate(rows):
        following = float(starts[at + 1]) if at + 1 < len(rows) else float(total)
        start = float(starts[at]) if own is None else float(own[0])
        end = following if own is None else min(float(own[1]), max(following, own[0]))
        yield start, max(start, end)
