"""A folder that cannot be written to is refused before weights are looked for, by every command that has one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from jukebox_core.base.paths import output_folder
from jukebox_core.errors import AudioError, ConfigError
from pipelines import commands
from pipelines.execution import preflight
from pipelines.execution.variation import run_settings
from pipelines.settings import compose as roots
from pipelines.settings.compose import compose
from tests.helpers.fake_runs import fake_run

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED = {
    "encode": ["audio=[a.wav]"],
    "decode": ["codes=[a.npz]"],
    "transcribe": ["audio=[a.wav]"],
    "features": ["audio=[a.wav]"],
    "align": ["run=sung"],
    "dataset": ["audio=music"],
    "export": [],
    "train": ["data.audio=music"],
}
FOLDERS = {
    "x" * 300: "has a part of 300 bytes",
    "file/x": "file is no folder",
    "pipe": "pipe is no folder",
    "nowhere/x": "nowhere is a link to nothing",
    "loop": "loop is a link to nothing",
}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory: a recording, a run, and what is no folder."""
    before, here = Path.cwd(), tmp_path_factory.mktemp("place")
    os.chdir(here)
    Path("music").mkdir()
    for path in ("a.wav", "music/a.wav"):
        soundfile.write(path, np.sin(np.arange(88200) / 30) * 0.3, 44100)
    Path("file").touch()
    os.mkfifo("pipe")
    Path("nowhere").symlink_to("gone")
    Path("loop").symlink_to("loop")
    Path("also_music").symlink_to("music")
    fake_run("sung")
    try:
        yield here
    finally:
        os.chdir(before)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def begins(*_: Any, **__: Any) -> None:
        raise AssertionError("work begins")

    for module in ("preflight", "transcription", "features"):
        monkeypatch.setattr(f"pipelines.execution.{module}.check_local_weights", begins)
    monkeypatch.setattr(commands, "logged", begins)
    monkeypatch.setattr("pipelines.execution.align.fetch_vocabularies", begins)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", NEEDED)
def test_it_is_refused_at_once(name: str, place: Path) -> None:
    settings = compose(getattr(roots, name.upper()), NEEDED[name])
    before = sorted(place.rglob("*"))
    for folder, reason in FOLDERS.items():
        with pytest.raises(ConfigError, match=reason):
            getattr(commands, name)(replace(settings, folder=folder))
        assert sorted(place.rglob("*")) == before


READING = {
    "transcribe": ["audio=[a.wav,music]"],
    "features": ["audio=[music]"],
    "dataset": ["audio=music"],
    "train": ["data.audio=music"],
    "finetune": ["data.audio=music", "model=mini"],
}


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", READING)
def test_results_are_not_mixed_with_what_they_are_made_from(name: str, place: Path) -> None:
    command = commands.train if name == "finetune" else getattr(commands, name)
    settings = compose(getattr(roots, name.upper()), READING[name])
    before = sorted(place.rglob("*"))
    inside = ("music", "music/", "./music/new/codes", f"{place}/music", "also_music", "also_music/x", "music/../music")
    for folder in inside:
        with pytest.raises(ConfigError, match=r"lies in, music, which is read; .* choose a folder outside of it"):
            command(replace(settings, folder=folder))
        assert sorted(place.rglob("*")) == before
    assert output_folder("music2", ["music", "a.wav", "gone"]) == Path("music2")
    assert output_folder(".", ["music"]) == Path(), "what is read may lie in it"


@pytest.mark.usefixtures("no_work")
def test_a_training_writes_neither_checkpoints_nor_a_model_to_what_it_reads() -> None:
    for more in (["checkpoints=music/x"], ["data.codes=music", "folder=music/x", "parts=[level_2]"]):
        with pytest.raises(ConfigError, match="lies in, music, which is read"):
            commands.train(compose(roots.TRAIN, ["data.audio=music", *more]))


@pytest.mark.usefixtures("no_work")
def test_a_model_is_not_trained_into_the_folder_of_the_one_that_it_starts_from(tmp_path: Path) -> None:
    settings = compose(roots.FINETUNE, ["data.audio=music", "model=mini", f"folder={tmp_path}"])
    for source in (str(tmp_path), tmp_path.as_uri()):
        files = replace(settings.model.files, weight_sources=(source,))
        with pytest.raises(ConfigError, match=f"lies in, {tmp_path}, which is read"):
            commands.train(replace(settings, model=replace(settings.model, files=files)))


def test_variations_are_not_stored_among_the_recordings() -> None:
    settings = compose(roots.VAMP, ["audio=[music]", "storage.root=music/outputs"])
    with pytest.raises(ConfigError, match="lies in, music, which is read"):
        run_settings(settings)


@pytest.mark.parametrize("name", ["root", "scratch", "spool.folder"])
def test_folders_of_a_run_are_checked_too(name: str, place: Path) -> None:
    before = sorted(place.rglob("*"))
    with pytest.raises(ConfigError, match="file is no folder"):
        preflight.prepare(compose(roots.GENERATE, [f"storage.{name}=file/x"]))
    assert sorted(place.rglob("*")) == before


def test_checkpoints_of_a_training_are_in_a_folder_that_can_be_made() -> None:
    with pytest.raises(ConfigError, match="file is no folder"):
        commands.train(compose(roots.TRAIN, ["data.audio=music", "checkpoints=file/x"]))


def test_names_of_files_that_would_be_too_long_are_refused_before_the_work(tmp_path: Path) -> None:
    """The suffix of a result may be longer than that of its source."""
    from pipelines.execution.targets import targets
    from pipelines.execution.transcription import find_recordings

    name = "x" * 251
    with pytest.raises(ConfigError, match="has a part of 256 bytes"):
        targets([f"{name}.npz"], "out", ".flac")
    (tmp_path / f"{name}.wav").touch()
    with pytest.raises(ConfigError, match="has a part of 256 bytes"):
        find_recordings(compose(roots.TRANSCRIBE, [f"audio=[{tmp_path}/{name}.wav]"]))


def test_a_folder_of_others_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert output_folder(tmp_path / "made" / "here") == tmp_path / "made" / "here"
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == tmp_path and mode & os.W_OK))
    with pytest.raises(ConfigError, match=f"access to {tmp_path} is refused"):
        output_folder(tmp_path / "made" / "here")


def test_built_in_music_that_does_not_exist_is_refused_before_the_work() -> None:
    with pytest.raises(AudioError, match=r"there is no builtin:nope; .* is builtin:tune"):
        commands.features(compose(roots.FEATURES, ["audio=[builtin:nope]"]))
