"""The window plan over random lengths, against its rule stated the slow way (docs/upstream.md, Windows)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jukebox_core.errors import ConfigError
from jukebox_core.tokens.plan import append_window, plan_windows, window_starts


@st.composite
def _full_levels(draw: st.DrawFn) -> tuple[int, int, int]:
    context = draw(st.integers(1, 60))
    return draw(st.integers(context, 400)), context, draw(st.integers(1, context))


def _starts_by_the_rule(total: int, context: int, hop: int) -> list[int]:
    starts = []
    for start in range(0, total, hop):
        if start + context >= total:
            return [*starts, total - context]
        starts.append(start)
    raise AssertionError("the windows never reach the end")


@given(_full_levels())
def test_starts_follow_the_rule(level: tuple[int, int, int]) -> None:
    assert window_starts(*level) == _starts_by_the_rule(*level)


@given(_full_levels())
def test_starts_cover_the_level_with_full_windows(level: tuple[int, int, int]) -> None:
    total, context, hop = level
    starts = window_starts(total, context, hop)
    assert {at for start in starts for at in range(start, start + context)} == set(range(total))
    assert all(0 < later - earlier <= hop for earlier, later in itertools.pairwise(starts))


@given(st.integers(1, 400), st.integers(1, 60), st.data())
def test_every_missing_token_is_filled_exactly_once_and_in_order(total: int, context: int, data: st.DataObject) -> None:
    hop, have = data.draw(st.integers(1, context)), data.draw(st.integers(0, total))
    windows = plan_windows(total, context, hop, have)
    filled = [at for window in windows for at in range(window.known, window.stop)]
    assert filled == list(range(have, total))
    for window in windows:
        assert 0 <= window.start <= window.known < window.stop
        assert window.new == window.stop - window.known
        assert window.stop - window.start == min(context, total)


@given(_full_levels(), st.data())
def test_interrupted_anywhere_the_windows_left_are_those_of_the_whole_plan(
    level: tuple[int, int, int], data: st.DataObject
) -> None:
    total, context, hop = level
    whole = plan_windows(total, context, hop)
    assert [window.start for window in whole] == window_starts(total, context, hop)
    done = data.draw(st.integers(0, len(whole)))
    have = whole[done - 1].stop if done else 0
    assert plan_windows(total, context, hop, have) == whole[done:]


@given(st.integers(0, 400), st.integers(1, 60), st.data())
def test_an_appended_window_adds_the_new_tokens_and_looks_back_as_far_as_it_can(
    have: int, context: int, data: st.DataObject
) -> None:
    new = data.draw(st.integers(1, context))
    window = append_window(have, new, context)
    assert (window.known, window.stop, window.new) == (have, have + new, new)
    length = window.stop - window.start
    start, sampled = (0, have + new) if have < context - new else (have - context + new, context)
    assert (window.start, length) == (start, sampled)


@given(st.integers(0, 100), st.integers(1, 60), st.integers(1, 60), st.data())
def test_what_cannot_be_planned_is_refused(total: int, context: int, beyond: int, data: st.DataObject) -> None:
    with pytest.raises(ConfigError, match="do not fit in a context"):
        append_window(total, context + beyond, context)
    for hop in (0, -beyond, context + beyond):
        with pytest.raises(ConfigError, match="hop"):
            window_starts(context + total, context, hop)
    with pytest.raises(ConfigError, match="do not fill a context"):
        window_starts(data.draw(st.integers(0, context - 1)), context, 1)
