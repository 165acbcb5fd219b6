from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.conditioning.lengths import (
    SongTimes,
    music_length,
    song_seconds,
    song_times,
    top_level_samples,
    whole_samples,
    window_hop,
)
from jukebox_core.families.jukebox.config import JukeboxConfig, PriorsConfig, TimingConfig
from jukebox_core.models.presets import load_preset

BIG = load_preset("1b_lyrics").config
MINI = replace(load_preset("mini").config, vqvae=BIG.vqvae)  # one rate for all
RATE, HOP = BIG.vqvae.sample_rate, BIG.vqvae.hops[-1]


def known(shortest: float, longest: float) -> JukeboxConfig:
    """Returns the mini model with other bounds of song lengths."""
    bounds = TimingConfig(bins=4, min_seconds=shortest, max_seconds=longest)
    level_0, level_1, level_2 = MINI.priors
    priors = PriorsConfig(level_0=level_0, level_1=level_1, level_2=replace(level_2, timing=bounds))
    return replace(MINI, priors=priors)


def times(config: JukeboxConfig = BIG, seconds: float = 20.0, total: float | None = None, offset: float = 0.0):
    return song_times(config, seconds=seconds, total_seconds=total, offset_seconds=offset)


@given(seconds=st.floats(1.0, 590.0))
def test_music_is_whole_top_tokens_and_no_longer_than_asked(seconds: float) -> None:
    length = music_length(MINI, seconds, stop_level=0)
    assert length % HOP == 0
    assert 0 <= seconds * RATE - length + 1e-3 < HOP + 1e-3


@given(tokens=st.integers(1, 200_000))
def test_seconds_that_mean_a_whole_number_are_not_rounded_down(tokens: int) -> None:
    assert top_level_samples(BIG, tokens * HOP / RATE) == tokens * HOP
    assert whole_samples(BIG, tokens / RATE) == tokens


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_length_that_is_not_positive_and_finite_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match=rf"^seconds is {seconds}; it must be above 0 and finite"):
        music_length(MINI, seconds, stop_level=2)


def test_the_least_music_is_one_top_token_or_an_upsamplers_context() -> None:
    assert music_length(BIG, HOP / RATE, stop_level=2) == HOP
    with pytest.raises(ConfigError, match=r"shorter than one top-level token \(0\.0029 s\)"):
        music_length(BIG, 0.9 * HOP / RATE, stop_level=2)
    least = BIG.context_length(1)
    assert music_length(BIG, least / RATE, stop_level=0) == least
    with pytest.raises(ConfigError, match=r"level 1 needs a full context of 8192 .*sampling\.stop_level=2"):
        music_length(BIG, (least - HOP) / RATE, stop_level=0)


def test_the_length_that_the_message_names_is_accepted() -> None:
    with pytest.raises(ConfigError) as caught:
        music_length(BIG, 1.0, stop_level=0)
    named = float(str(caught.value).partition("set seconds=")[2].split()[0])
    assert music_length(BIG, named, stop_level=0) >= BIG.context_length(1)


def test_the_song_defaults_to_the_music_but_to_no_less_than_the_models_minimum() -> None:
    assert times(seconds=20.0) == SongTimes(top_level_samples(BIG, 20.0), 0)
    assert times(seconds=6.0) == SongTimes(round(17.84 * RATE), 0)
    assert times(seconds=6.0, offset=30.0) == SongTimes(30 * RATE + top_level_samples(BIG, 6.0), 30 * RATE)
    assert times(seconds=6.0, total=100.0, offset=1.5) == SongTimes(100 * RATE, round(1.5 * RATE))


def filled(config: JukeboxConfig, seconds: float, offset: float = 0.0, usual: float | None = 180.0) -> float | None:
    return song_seconds(config, seconds=seconds, offset_seconds=offset, usual_seconds=usual)


def test_a_song_without_a_length_is_as_long_as_usual_but_no_shorter_than_the_music() -> None:
    assert filled(BIG, 24.0) == filled(BIG, 100.0, 80.0) == 180.0
    assert filled(BIG, 24.0, 170.0) == (170 * RATE + top_level_samples(BIG, 24.0)) / RATE
    assert filled(BIG, 200.0) == top_level_samples(BIG, 200.0) / RATE
    assert filled(BIG, 24.0, usual=None) == top_level_samples(BIG, 24.0) / RATE


def test_a_usual_length_outside_the_models_range_is_moved_into_it() -> None:
    config = known(8.0, 12.0)
    assert filled(config, 6.0, usual=2.0) == filled(config, 6.0, usual=None) == 8.0
    longest = filled(config, 6.0, usual=500.0)
    assert longest == pytest.approx(12.0, abs=2 / RATE)
    assert times(config, 6.0, longest).total_length < 12 * RATE
    assert filled(config, 12.5) is None  # `song_times` says why


def test_a_model_without_timing_keeps_its_keys() -> None:
    config = load_preset("small_prior").config
    assert filled(config, 30.0) == filled(config, 30.0, usual=None)


@given(seconds=st.floats(0.1, 500.0), offset=st.floats(0.0, 80.0), usual=st.none() | st.floats(0.1, 1000.0))
def test_the_length_that_is_filled_in_is_always_accepted(seconds: float, offset: float, usual: float | None) -> None:
    found = filled(BIG, seconds, offset, usual)
    assert times(BIG, seconds, found, offset).total_length == round((found or 0) * RATE)


@pytest.mark.parametrize("name", ["mini", "1b_lyrics", "5b", "5b_lyrics"])
def test_the_shortest_song_that_a_model_knows_is_accepted(name: str) -> None:
    config = load_preset(name).config
    timing = config.priors[config.top].timing
    assert timing is not None
    assert times(config, 1.0, timing.min_seconds).total_length >= timing.min_seconds * config.vqvae.sample_rate - 1e-5


@pytest.mark.parametrize(("total", "fits"), [(7.999, False), (8.0, True), (11.999, True), (12.0, False)])
def test_the_bounds_of_the_lengths_that_a_model_knows(total: float, fits: bool) -> None:
    if fits:
        assert times(known(8.0, 12.0), 6.0, total).total_length == whole_samples(BIG, total)
    else:
        with pytest.raises(
            ConfigError, match=r"^total_seconds is .*, but mini knows songs from 8 s to just under 12 s"
        ):
            times(known(8.0, 12.0), 6.0, total)


def test_a_song_that_becomes_too_long_by_its_offset_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^offset_seconds \+ seconds is 12\.5, but .*make seconds smaller"):
        times(known(8.0, 12.0), 6.5, None, 6.0)


def test_the_music_may_end_with_the_song_but_not_after_it() -> None:
    length = top_level_samples(BIG, 20.0)
    assert times(seconds=20.0, total=length / RATE) == SongTimes(length, 0)
    with pytest.raises(ConfigError, match=r"^total_seconds is .*, but the music ends at"):
        times(seconds=20.0, total=(length - 1) / RATE)


@pytest.mark.parametrize("offset", [-1.0, math.inf, math.nan])
def test_offsets_are_not_negative(offset: float) -> None:
    with pytest.raises(ConfigError, match=rf"^offset_seconds is {offset}; it cannot be negative"):
        times(offset=offset)


@pytest.mark.parametrize("total", [0.0, -3.0, math.nan])
def test_a_song_has_a_length(total: float) -> None:
    with pytest.raises(ConfigError, match=rf"^total_seconds is {total}; it must be above 0"):
        times(total=total)


@given(level=st.integers(0, 2), share=st.floats(1e-6, 1.0))
def test_windows_move_by_whole_tokens_of_the_level_above(level: int, share: float) -> None:
    step = 1 if level == 2 else BIG.upsampling_factor(level)
    hop, exact = window_hop(BIG, level, share), share * BIG.priors[level].context
    assert hop >= step
    assert hop % step == 0
    assert hop <= max(step, exact) < hop + step + 1


def test_the_usual_hops() -> None:
    assert [window_hop(BIG, level, share) for level, share in ((2, 0.125), (1, 0.5), (0, 0.5))] == [768, 4096, 4096]
