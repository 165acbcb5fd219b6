"""Tracks are rows of tokens: any cut, slice and splice, against a plain list of (key, position)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jukebox_core.tokens.graph import Span, Track, joined_spans

SPANS = st.lists(
    st.builds(
        lambda key, start, size: Span(key * 64, start, start + size),
        st.sampled_from("abc"),
        st.integers(0, 12),
        st.integers(0, 6),
    ),
    max_size=8,
)


def tokens(spans: object) -> list[tuple[str, int]]:
    return [(key, position) for key, start, stop in spans for position in range(start, stop)]  # type: ignore[attr-defined]


@given(SPANS, st.data())
def test_slice_and_cut_give_the_same_tokens(spans: list[Span], data: st.DataObject) -> None:
    track, plain = Track(tuple(spans)), tokens(spans)
    assert len(track) == len(plain)
    start = data.draw(st.integers(0, len(plain)))
    stop = data.draw(st.integers(start, len(plain)))
    assert tokens(track.slice(start, stop)) == plain[start:stop]
    assert track.slice(start, stop) == joined_spans(track.slice(start, stop))
    assert track.cut(stop) == Track(track.slice(0, stop))
    assert track.cut(stop).append(track.slice(stop, len(track))) == track


@given(SPANS, SPANS)
def test_tracks_are_equal_when_and_only_when_their_tokens_are(one: list[Span], other: list[Span]) -> None:
    grown = Track(tuple(one))
    for span in other:
        grown = grown.append((span,))
    assert grown == Track((*one, *other))
    assert (Track(tuple(one)) == Track(tuple(other))) is (tokens(one) == tokens(other))
    assert Track.parse(grown.lines()) == grown


@given(SPANS, st.sets(st.sampled_from(["a" * 64, "b" * 64, "c" * 64])))
def test_a_track_reaches_to_the_first_token_that_is_not_there(spans: list[Span], unsealed: set[str]) -> None:
    plain = tokens(spans)
    there = next((at for at, (key, _) in enumerate(plain) if key in unsealed), len(plain))
    assert Track(tuple(spans)).reach(unsealed) == there
