from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.presets import load_preset
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.sampling.config import SamplingConfig
from jukebox_core.weights.config import WeightsConfig
from pipelines.settings import RunSettings, Settings, SongOverride, SongSettings, SourceSettings

MINI = load_preset("mini")
RATE, HOP = MINI.vqvae.sample_rate, MINI.vqvae.hops[-1]


def settings(**changes: object) -> Settings:
    known: dict[str, object] = {
        "run": RunSettings(),
        "model": MINI,
        "sampling": SamplingConfig(),
        "hardware": HardwareConfig(),
        "seconds": 6.0,
        "weights": WeightsConfig(folder="w"),
    }
    return Settings(**(known | changes))  # type: ignore[arg-type]


@given(seconds=st.floats(1.0, 590.0))
def test_every_level_is_as_long_as_the_others_and_no_longer_than_asked(seconds: float) -> None:
    made = settings(seconds=seconds)
    lengths = {made.tokens(level) * hop for level, hop in enumerate(MINI.vqvae.hops)}
    assert lengths == {made.length}
    assert made.length % HOP == 0
    assert 0 <= seconds * RATE - made.length + 1e-5 < HOP + 1e-5


@given(tokens=st.integers(400, 200_000))
def test_seconds_that_mean_a_whole_number_of_tokens_are_not_rounded_down(tokens: int) -> None:
    assert settings(seconds=tokens * HOP / RATE).tokens(2) == tokens


def test_an_upsampler_accepts_exactly_its_context() -> None:
    big = load_preset("1b_lyrics")
    needed = big.priors[1].context * big.vqvae.hops[1] / RATE
    made = settings(model=big, seconds=needed)
    assert made.tokens(1) == big.priors[1].context
    with pytest.raises(ConfigError, match="full context"):
        settings(model=big, seconds=needed - HOP / RATE)


def test_the_length_that_the_message_names_is_accepted() -> None:
    big = load_preset("1b_lyrics")
    with pytest.raises(ConfigError) as caught:
        settings(model=big, seconds=1.0)
    named = str(caught.value).partition("set seconds=")[2].split()[0]
    assert settings(model=big, seconds=float(named)).tokens(1) >= big.priors[1].context


def test_the_told_length_is_what_is_made_but_no_less_than_the_model_knows() -> None:
    assert settings().total_length_of(0) == settings().length
    big = load_preset("5b_lyrics")
    assert settings(model=big).total_length_of(0) == round(23.8 * RATE)
    later = settings(model=big, song=SongSettings(offset_seconds=30.0))
    assert later.total_length_of(0) == 30 * RATE + later.length


@pytest.mark.parametrize("name", ["1b_lyrics", "5b", "5b_lyrics"])
def test_the_shortest_song_a_model_knows_may_be_told(name: str) -> None:
    model = load_preset(name)
    timing = model.priors[2].timing
    assert timing is not None
    made = settings(model=model, song=SongSettings(total_seconds=timing.min_seconds))
    assert made.total_length_of(0) == made.total_length_of(0)
    assert made.total_length_of(0) >= timing.min_seconds * RATE - 1e-5


def test_a_songs_entry_replaces_only_what_it_names() -> None:
    song = SongSettings(artist="organ", genre="folk", lyrics="la", total_seconds=60.0)
    made = settings(
        sampling=SamplingConfig(n_samples=3),
        song=song,
        songs=(SongOverride(), SongOverride(genre="waltz"), SongOverride(offset_seconds=2.0, lyrics="")),
    )
    assert [made.song_of(sample) for sample in range(3)] == [
        song,
        replace(song, genre="waltz"),
        replace(song, offset_seconds=2.0, lyrics=""),
    ]
    assert [made.offset_of(sample) for sample in range(3)] == [0, 0, 2 * RATE]


def test_words_given_one_way_replace_words_given_the_other() -> None:
    by_file = SongSettings(lyrics_file="a.txt")
    assert SongOverride(lyrics="la").apply(by_file) == SongSettings(lyrics="la")
    assert SongOverride(lyrics_file="b.txt").apply(SongSettings(lyrics="la")) == SongSettings(lyrics_file="b.txt")


def test_only_continue_cuts_the_run_it_starts_from() -> None:
    assert SourceSettings(run="r", command="continue", keep_seconds=2.0).keep_seconds == 2.0
    with pytest.raises(ConfigError, match="upsample keeps the whole run"):
        SourceSettings(run="r", command="upsample", keep_seconds=2.0)
