from __future__ import annotations

from dataclasses import replace

import pytest

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.conditioning.song import Song, SongOverride
from jukebox_core.families.jukebox.sampling.config import SamplingConfig
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.config import HardwareConfig
from pipelines.settings.common import RunnerSettings, RunSettings
from pipelines.settings.generate import Settings, SourceSettings

MINI = load_preset("mini")


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


def test_a_songs_entry_replaces_only_what_it_names() -> None:
    song = Song(artist="organ", genre="folk", lyrics="la", total_seconds=60.0)
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


def test_a_song_without_a_length_has_the_models_usual_one() -> None:
    made = settings(sampling=SamplingConfig(n_samples=3), songs=(
        SongOverride(), SongOverride(total_seconds=9.0), SongOverride(offset_seconds=40.0),
    ))  # fmt: skip
    assert [made.song_of(sample).total_seconds for sample in range(2)] == [30.0, 9.0]
    end = 40 + made.length / made.config.sample_rate
    assert made.filled_in == [{"total_seconds": 30.0}, {}, {"total_seconds": pytest.approx(end, abs=1e-4)}]
    assert made.uses_usual_length
    assert not settings(song=Song(total_seconds=30.0)).uses_usual_length
    assert not settings(seconds=40.0).uses_usual_length  # the end of the music, as always


def test_a_model_without_a_usual_length_has_the_length_of_the_music() -> None:
    made = settings(model=replace(MINI, usual_seconds=None))
    assert made.song_of(0).total_seconds == made.length / made.config.sample_rate
    assert not made.uses_usual_length


@pytest.mark.parametrize("usual", [0.0, -3.0, float("inf"), float("nan")])
def test_a_usual_length_is_a_length(usual: float) -> None:
    with pytest.raises(ConfigError, match=f"usual_seconds is {usual}; it must be above 0 and finite, or null"):
        replace(MINI, usual_seconds=usual)


def test_words_given_one_way_replace_words_given_the_other() -> None:
    by_file = Song(lyrics_file="a.txt")
    assert SongOverride(lyrics="la").apply(by_file) == Song(lyrics="la")
    assert SongOverride(lyrics_file="b.txt").apply(Song(lyrics="la")) == Song(lyrics_file="b.txt")


def test_only_continue_cuts_the_run_it_starts_from() -> None:
    assert SourceSettings(run="r", command="continue", keep_seconds=2.0).keep_seconds == 2.0
    with pytest.raises(ConfigError, match="upsample keeps the whole run"):
        SourceSettings(run="r", command="upsample", keep_seconds=2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 0}, "workers is 0; it must be above 0"),
        ({"shards": 0}, "shards is 0; it must be above 0"),
        ({"preview_seconds": -1.0}, "preview_seconds is -1.0; it cannot be negative"),
        ({"workers": 2, "devices": ("cuda:0",)}, "workers is 2, but devices names 1; one model a device"),
        ({"devices": ("cuda:0", "cuda:0")}, "name each device once"),
        ({"devices": ("cuda:x",)}, "device is 'cuda:x'"),
        ({"address": "tcp://host:8786"}, "runner.kind is threads; choose runner=dask or runner=ray"),
    ],
)
def test_runners_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunnerSettings(**changes)  # type: ignore[arg-type]


def test_what_lies_in_memory_at_a_time_follows_from_the_workers() -> None:
    alone, threads = RunnerSettings(), RunnerSettings(workers=2)
    processes, apart = RunnerSettings(kind="ray", workers=2), RunnerSettings(workers=2, devices=("cuda:0", "cuda:1"))
    assert [each.copies for each in (alone, threads, processes, apart)] == [1, 1, 2, 1]
    assert [each.max_concurrent(10, 16) for each in (alone, threads, processes, apart)] == [10, 10, 5, 5]
    assert [each.max_concurrent(10, 2) for each in (alone, threads, processes, apart)] == [2, 4, 2, 2]
    assert [each.in_place for each in (alone, threads, processes)] == [True, False, False]
