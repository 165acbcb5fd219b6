"""A choice in the middle of a run: the music before and after it, and the equivalent commands."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from jukebox_core.errors import ConfigError
from pipelines.runs.choice import Choice, advice, after, first_part
from pipelines.runs.folder import RunFolder, default_name
from pipelines.runs.settings_of_run import run_root
from pipelines.settings.compose import GENERATE, compose, dump

THREE = ["sampling.n_samples=3", "choose=top", "songs=[{artist: unknown},{genre: unknown},{lyrics: 'la, la'}]"]


def test_without_a_choice_everything_is_made_at_once() -> None:
    settings = compose(GENERATE)
    assert first_part(settings) is settings
    assert advice(settings, RunFolder(Path("outputs/run"))) == []


def test_only_the_levels_above_the_choice_are_made_first() -> None:
    settings = compose(GENERATE, ["choose=top"])
    assert first_part(settings).sampling.stop_level == 2
    assert default_name(first_part(settings)) == default_name(compose(GENERATE, ["sampling.stop_level=2"]))


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_that_ends_above_the_choice_has_none(stop: int) -> None:
    settings = compose(GENERATE, [f"sampling.stop_level={stop}", "choose.after_level=1"])
    assert first_part(settings) == settings


def test_a_chosen_sample_is_finished_alone() -> None:
    settings = compose(GENERATE, THREE)
    chosen = after(settings, RunFolder(Path("outputs/sketch")), Choice(sample=2))
    assert chosen.source is not None
    assert (chosen.source.command, chosen.source.samples) == ("upsample", (2,))
    assert (chosen.sampling.n_samples, chosen.sampling.stop_level, chosen.choose.after_level) == (1, 0, None)
    assert chosen.songs == settings.songs[2:]


def test_without_a_sample_all_are_finished() -> None:
    settings = compose(GENERATE, THREE)
    chosen = after(settings, RunFolder(Path("outputs/sketch")), Choice())
    assert chosen.source is not None
    assert (chosen.source.samples, chosen.sampling, chosen.songs) == ((), settings.sampling, settings.songs)


def test_a_cut_spreads_the_sample_over_new_ones_and_asks_again() -> None:
    settings = compose(GENERATE, [*THREE, "sampling.seed=4"])
    chosen = after(settings, RunFolder(Path("outputs/sketch")), Choice(sample=1, keep_seconds=2.0))
    assert chosen.source is not None
    assert (chosen.source.command, chosen.source.samples, chosen.source.keep_seconds) == ("continue", (1,), 2.0)
    assert (chosen.sampling.n_samples, chosen.sampling.seed) == (3, 5)
    assert chosen.songs == settings.songs[1:2] * 3
    assert chosen.choose == settings.choose
    assert first_part(chosen) != chosen


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(sample=3), "sample is 3, but there are samples 0 to 2; choose one of these, or none"),
        (Choice(sample=-1), "sample is -1, but there are samples 0 to 2; choose one of these, or none"),
        (Choice(keep_seconds=6.0), "keep_seconds is 6, but the music has 6 s; choose a time within it, or none"),
        (Choice(keep_seconds=0.0), "keep_seconds is 0, but the music has 6 s; choose a time within it, or none"),
    ],
    ids=str,
)
def test_a_choice_out_of_range_is_refused(choice: Choice, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        after(compose(GENERATE, THREE), RunFolder(Path("outputs/sketch")), choice)
    assert str(caught.value) == message


@pytest.mark.parametrize("level", [0, 3])
def test_a_level_that_nothing_is_below_is_refused(level: int) -> None:
    with pytest.raises(ConfigError, match=f"after_level is {level}"):
        compose(GENERATE, [f"choose.after_level={level}"])


def test_the_advised_commands_make_what_a_choice_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = compose(GENERATE, THREE)
    run = RunFolder(tmp_path / "outputs" / "a sketch")
    run.path.mkdir(parents=True)
    (run.path / "config.yaml").write_text(dump(first_part(settings)), "utf-8")
    head, *commands = advice(settings, run)
    assert head.startswith("choose: listen to ")
    made = []
    for command in commands:
        program, verb, name, *overrides = shlex.split(command, comments=True)
        assert program == "jukebox"
        made.append(compose(run_root(verb, name, overrides), overrides))
    half = Choice(sample=2, keep_seconds=3.0)
    expected = [after(settings, run, choice) for choice in (Choice(), Choice(sample=2), half)]
    assert made == [expected[0], expected[1], first_part(expected[2])]
    assert [replace(m.sampling, seed=0).stop_level for m in made] == [0, 0, 2]
