"""Times of words: the monotone path, pieces without rows, songs that go on, and lines."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jukebox_core.alignment.times import (
    Alignment,
    line_spans,
    monotone_path,
    normalised,
    rows_of,
    statistics,
    word_spans,
)

TEXT = "one two three"


def aligned(path: list[int], text: str = TEXT, **more: object) -> Alignment:
    """An alignment whose rows attend to the columns of `path`."""
    weights = np.full((len(path), len(text)), 1e-3, np.float32)
    for row, column in enumerate(path):
        if column < len(text):
            weights[row, column] = 1
    return Alignment(text=text, weights=weights, row_seconds=0.5, **more)  # type: ignore[arg-type]


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_the_path_is_the_best_of_all(rows: int, columns: int, seed: int) -> None:
    weights = np.random.default_rng(seed).integers(0, 4, (rows, columns)).astype(np.float32)
    path = monotone_path(weights)
    assert (np.diff(path) >= 0).all()
    every = itertools.combinations_with_replacement(range(columns), rows)
    best = max(sum(weights[row, column] for row, column in enumerate(each)) for each in every)
    assert weights[np.arange(rows), path].sum() == best


def test_words_have_the_rows_of_their_characters() -> None:
    words = aligned([1, 2, 3, 5, 5, 7, 9, 10, 11, 12]).words()
    assert [(word.text, word.start, word.end, word.estimated) for word in words] == [
        ("one", 0.0, 1.5, False),
        ("two", 1.5, 3.0, False),
        ("three", 3.0, 5.0, False),
    ]


def test_a_word_that_is_skipped_lies_between_its_neighbours() -> None:
    one, two, three = aligned([1, 2, 3, 3, 9, 10, 11, 12]).words()
    assert two.estimated
    assert one.start <= two.start <= three.start
    assert (one.start, three.start, three.estimated) == (0.0, 2.0, False)


def test_rows_that_rest_at_the_ends_are_spread_over_the_song() -> None:
    resting = [5] * 6 + [6, 7] + [9] * 4
    words = aligned(resting).words()
    assert [word.estimated for word in words] == [False] * 3
    assert words[0].start == 0.0
    assert 1.0 < words[1].start < 3.0
    assert words[2].end == 6.0
    excerpt = aligned(resting, offset_seconds=3.0, song_seconds=60.0).words()
    assert excerpt[1].start == 0.0, "an excerpt may begin within the text"


def test_what_the_music_does_not_reach_has_no_time() -> None:
    alignment = aligned([1, 2, 3, 5], song_seconds=60.0)
    alignment.weights[:, 8:] = 0
    assert [word.text for word in alignment.words()] == ["one", "two"]
    alignment.weights[:] = 0
    assert alignment.words() == alignment.lines() == alignment.characters() == []


@pytest.mark.parametrize("text", ["", " \n "])
def test_a_text_without_words(text: str) -> None:
    alignment = Alignment(text=text, weights=np.zeros((4, len(text)), np.float32), row_seconds=1.0)
    assert alignment.words() == alignment.lines() == []


def test_statistics_of_nothing() -> None:
    found = statistics(np.zeros((3, 2), np.float32))
    assert found.peak_row.tolist() == [-1, -1]
    assert found.centroid_row.tolist() == [-1, -1]
    assert found.row_argmax.tolist() == [-1] * 3
    assert statistics(np.zeros((3, 0), np.float32)).row_argmax.tolist() == [-1] * 3


def test_rows_sum_to_one_or_stay_zero() -> None:
    found = normalised(np.array([[1, 3], [0, 0]], np.float32))
    assert found.tolist() == [[0.25, 0.75], [0, 0]]


def test_characters_are_read_one_column_later() -> None:
    path = np.array([1, 1, 2, 4])
    assert rows_of(path, 0, 1) == (0, 2)
    assert rows_of(path, 2, 3) is None
    assert rows_of(path, 1, 4) == (2, 4)


def test_long_lines_are_broken_between_words() -> None:
    text = "short one\n\n" + "words and " * 13 + "\n  last"
    spans = line_spans(text)
    parts = [text[first:stop] for first, stop in spans]
    assert parts[0] == "short one"
    assert parts[-1] == "last"
    assert all(len(part) <= 70 for part in parts)
    assert " ".join(parts).split() == text.split()
    assert word_spans("a\tbc ") == [(0, 1), (2, 4)]
