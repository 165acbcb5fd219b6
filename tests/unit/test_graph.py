from __future__ import annotations

import pytest

from jukebox_core.errors import RunError
from jukebox_core.tokens.graph import Span, Track, make_node
from jukebox_core.tokens.plan import Window

TRACK = Track((Span("a", 0, 10), Span("b", 10, 25), Span("c", 25, 30)))


def test_a_slice_trims_the_spans_it_cuts_through() -> None:
    assert TRACK.slice(5, 27) == (Span("a", 5, 10), Span("b", 10, 25), Span("c", 25, 27))
    assert TRACK.slice(10, 25) == (Span("b", 10, 25),)
    assert TRACK.slice(7, 7) == ()


def test_cut_and_extend_keep_a_track_whole() -> None:
    assert len(TRACK) == 30
    assert list(TRACK.cut(12)) == [Span("a", 0, 10), Span("b", 10, 12)]
    assert TRACK.cut(99) == TRACK
    assert TRACK.cut(10).extend("d", 40).spans[-1] == Span("d", 10, 40)
    assert len(Track()) == 0


def test_spans_with_a_gap_are_no_track() -> None:
    assert Track.joined([list(span) for span in TRACK]) == TRACK
    with pytest.raises(RunError, match="11 to 20 do not follow position 10"):
        Track.joined([["a", 0, 10], ["b", 11, 20]])


def test_a_key_is_its_causes() -> None:
    causes = {
        "level": 1,
        "sample": 0,
        "window": Window(0, 2, 8),
        "reads": [Span("a", 0, 2)],
        "above": [],
        "labels": [1],
    }
    node = make_node(**causes, seed=1)
    assert make_node(**causes, seed=1).key == node.key
    assert make_node(**causes, seed=2).key != node.key
    assert make_node(**{**causes, "reads": [Span("b", 0, 2)]}, seed=1).key != node.key
    assert set(node.causes) == {"schema", *causes, "seed"}
