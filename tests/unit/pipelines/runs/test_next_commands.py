"""The commands that are printed after a finished one are commands."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from jukebox_core.family import open_family
from pipelines.cli.main import COMMANDS
from pipelines.runs.folder import RunFolder, run_path
from pipelines.runs.next_commands import (
    after_composing,
    after_dataset,
    after_decoding,
    after_features,
    after_files,
    after_run,
    after_training,
)
from pipelines.settings.compose import DATASET, DECODE, ENCODE, FEATURES, GENERATE, TRAIN, VAMP, compose
from pipelines.settings.overrides import parse

if TYPE_CHECKING:
    from pathlib import Path


def commands(lines: list[str]) -> list[list[str]]:
    assert lines[0] == "next:"
    found = [shlex.split(line) for line in lines[1:]]
    assert len(found) == 2
    for program, name, *words in found:
        assert program == "jukebox"
        assert name in COMMANDS
        for word in words:
            assert "=" not in word or parse(word)
    return [words[1:] for words in found]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            [],
            [["continue", "song", "seconds=12"], ["continue", "song", "source.keep_seconds=3", "sampling.seed=1"]],
        ),
        (["sampling=top_only"], [["upsample", "song"], ["continue", "song", "seconds=12"]]),
    ],
)
def test_a_song_can_be_finished_or_continued(overrides: list[str], expected: list[list[str]]) -> None:
    settings = compose(GENERATE, ["run.name=song", *overrides])
    assert commands(after_run(settings, RunFolder(run_path(settings)))) == expected


def test_a_run_elsewhere_is_named_by_its_folder(tmp_path: Path) -> None:
    settings = compose(GENERATE, ["run.name=song", f"storage.root={tmp_path}"])
    assert commands(after_run(settings, RunFolder(run_path(settings))))[0][1] == str(tmp_path / "song")


def test_files_and_models_can_be_used() -> None:
    coarse = ["decode", "codes=my clip.npz", "level=2"]
    first, second = commands(after_files("decode", "codes", ["my clip.npz"], coarse))
    assert compose(DECODE, first[1:]).codes == ("my clip.npz",)
    assert compose(DECODE, second[1:]).level == 2
    assert after_files("decode", "codes", []) == []
    assert commands(after_training(open_family("jukebox"), "/m"))[0] == ["generate", "model=/m"]
    assert commands(after_training(open_family("mt3"), "/m"))[0][0] == "transcribe"
    assert commands(after_training(open_family("vampnet"), "/m"))[0][0] == "vamp"


def test_each_line_is_a_command_that_the_program_takes() -> None:
    roots = {
        "generate": GENERATE,
        "vamp": VAMP,
        "features": FEATURES,
        "encode": ENCODE,
        "dataset": DATASET,
        "train": TRAIN,
    }
    lines = [
        after_decoding(["outputs/my clip.wav"]), after_features("songs"), after_composing("outputs/songs"),
        after_dataset("songs", "codes", encoded=True), after_dataset("songs", "look", encoded=False),
    ]  # fmt: skip
    for found in lines:
        for name, *words in commands(found):
            assert compose(roots[name], words)
    assert after_decoding([]) == []
