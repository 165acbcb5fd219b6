"""Recordings that a user names: files, folders, patterns and tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.features.listing import list_recordings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def music(tmp_path: Path) -> Path:
    for name in ("b.wav", "a.mp3", "deep/c.flac", "deep/.hidden.wav", "notes.txt", "more/c.flac"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def names(*sources: object) -> list[str]:
    return [each.name for each in list_recordings([str(source) for source in sources])]


def test_folders_patterns_and_files(music: Path) -> None:
    assert names(music) == ["a.mp3", "b.wav", "deep/c.flac", "more/c.flac"]
    assert names(music / "**/*.flac") == ["deep/c.flac", "more/c.flac"]
    assert names(music / "b.wav", music / "deep") == ["b.wav", "c.flac"]


def test_a_table_names_files_beside_it_with_fields(music: Path) -> None:
    table = music / "songs.csv"
    table.write_text('path,artist,tempo\ndeep/c.flac,"me, and you",120\nb.wav,,90\n')
    first, second = list_recordings([str(table)])
    assert (first.name, first.path) == ("deep/c.flac", str(music / "deep/c.flac"))
    assert first.fields == {"artist": "me, and you", "tempo": "120"}
    assert second.fields == {"tempo": "90"}


def test_a_folder_may_have_metadata(music: Path) -> None:
    (music / "metadata.jsonl").write_text('{"path": "b.wav", "genre": "folk"}\n')
    found = {each.name: each.fields for each in list_recordings([str(music)])}
    assert (found["b.wav"], found["a.mp3"]) == ({"genre": "folk"}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no lines below its header"),
        ("path,artist\n", "has no lines below its header"),
        ("file\nb.wav\n", "has no path"),
        ("path,artist\nb.wav,a,b\n", "more or fewer fields than columns"),
        ("path,artist\nb.wav\n", "more or fewer fields than columns"),
        ("path\nnone.wav\n", "none.wav does not exist; paths are relative to the table"),
        ("path\nb.wav\nb.wav\n", "b.wav is named twice"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(music: Path, text: str, message: str) -> None:
    (music / "t.csv").write_text(text)
    with pytest.raises((ConfigError, AudioError), match=message):
        names(music / "t.csv")


def test_what_holds_no_audio_is_refused(music: Path, tmp_path: Path) -> None:
    (music / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty holds no .wav"):
        names(music / "empty")
    with pytest.raises(ConfigError, match=r"\*.ogg holds no .wav"):
        names(music / "*.ogg")
    with pytest.raises(AudioError, match=r"none.wav does not exist"):
        names(music / "none.wav")
    with pytest.raises(ConfigError, match=r"would both be called 'c.flac'"):
        names(music / "deep", music / "more")


def test_pipes_are_refused_at_once(tmp_path: Path) -> None:
    for name, error in (("pipe", AudioError), ("pipe.wav", AudioError), ("pipe.csv", ConfigError)):
        os.mkfifo(tmp_path / name)
        with pytest.raises(error, match=r"pipe or device|device or a pipe"):
            list_recordings([str(tmp_path / name)])
