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


def test_a_spliced_range_keeps_its_place_in_the_store() -> None:
    spliced = TRACK.cut(12).append((Span("x", 100, 104), Span("y", 3, 5)))
    assert len(spliced) == 18
    assert spliced.slice(11, 17) == (Span("b", 11, 12), Span("x", 100, 104), Span("y", 3, 4))
    assert spliced.extend("d", 20).spans[-1] == Span("d", 18, 20)


def test_spans_that_follow_each_other_under_one_key_are_one() -> None:
    whole = Track((Span("a", 0, 10),))
    assert Track((Span("a", 0, 4), Span("a", 4, 4), Span("a", 4, 10))) == whole
    assert whole.cut(4).append(whole.slice(4, 10)) == whole
    assert len(Track((Span("a", 4, 10), Span("a", 0, 4))).spans) == 2


def test_a_track_reaches_to_the_first_unsealed_key() -> None:
    assert TRACK.reach(()) == 30
    assert TRACK.reach({"b", "c"}) == 10
    assert Track((Span("x", 100, 104), Span("y", 3, 5))).reach({"y"}) == 4


def test_a_track_is_kept_as_text() -> None:
    track = Track((Span("a" * 64, 5, 10), Span("b" * 64, 10, 25)))
    assert track.lines() == [f"{'a' * 64} 5-10", f"{'b' * 64} 10-25"]
    assert Track.parse(track.lines()) == track


@pytest.mark.parametrize("line", ["", "a 0-5", f"{'a' * 64} 5-5", f"{'a' * 64} 0-", 7])
def test_text_that_names_no_tokens_is_refused(line: str) -> None:
    with pytest.raises(RunError, match="does not name tokens"):
        Track.parse([line])


def test_a_key_is_its_causes() -> None:
    causes = {
        "level": 1,
        "sample": 0,
        "window": Window(0, 2, 8),
        "inputs": {"reads": [Span("a", 0, 2)], "above": []},
        "labels": [1],
    }
    node = make_node(**causes, seed=1)
    assert make_node(**causes, seed=1).key == node.key
    assert make_node(**causes, seed=2).key != node.key
    assert make_node(**{**causes, "inputs": {"reads": [Span("b", 0, 2)], "above": []}}, seed=1).key != node.key
    assert set(node.causes) == {"schema", "level", "sample", "window", "reads", "above", "labels", "seed"}
