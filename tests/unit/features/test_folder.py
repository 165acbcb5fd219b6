"""Folders of features: what is finished, torn lines, damage, and loading."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jukebox_core as jukebox
from jukebox_core.errors import ConfigError, DamagedError, StoreError
from jukebox_core.features.config import MANIFEST
from jukebox_core.features.folder import INDEX, Entry, FeatureFolder, SourceState

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = SourceState(10, 20)


def entry(name: str, **more: object) -> Entry:
    fixed = {"name": name, "path": f"/music/{name}", "causes": "c", "audio": "a", "size": 10, "modified_ns": 20}
    return Entry(**{**fixed, **more})  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> FeatureFolder:
    made = FeatureFolder(tmp_path / "made")
    made.write_manifest({"recordings": ["b.wav", "deep/a.wav", "bad.wav"]})
    for number, name in enumerate(["b.wav", "deep/a.wav"]):
        made.write(entry(name, fields={"genre": name[0]}), {"layer3": np.full(4, number, np.float32)})
    made.append(entry("bad.wav", error="not audio"))
    return made


def test_finished_recordings_are_loaded_in_order(folder: FeatureFolder) -> None:
    found = jukebox.load_features(folder.path)
    assert found.names == ["b.wav", "deep/a.wav"]
    np.testing.assert_array_equal(found[3], [[0] * 4, [1] * 4])
    np.testing.assert_array_equal(found.of("deep/a.wav")["layer3"], [1] * 4)
    assert found.field("genre") == ["b", "d"]
    found.verify()
    with pytest.raises(ConfigError, match=r"'layer4' is not in .*; its arrays are layer3"):
        _ = found[4]
    with pytest.raises(ConfigError, match=r"'c.wav' is not in .*; closest: 'b.wav'"):
        found.of("c.wav")


def test_arrays_of_other_lengths_are_a_list(folder: FeatureFolder) -> None:
    folder.write(entry("b.wav"), {"layer3": np.zeros((2, 4), np.float32)})
    assert [each.shape for each in jukebox.load_features(folder.path)[3]] == [(2, 4), (4,)]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "../../outside.wav", "in/../../../outside.wav", "/outside.wav"])
def test_arrays_of_any_name_are_in_the_folder(folder: FeatureFolder, name: str) -> None:
    made = folder.write(entry(name), {"layer3": np.zeros(4, np.float32)}).arrays["layer3"]
    found = (folder.path / made.file).resolve()
    assert found.is_file()
    assert found.is_relative_to((folder.path / "arrays").resolve())


def test_other_numbers_of_a_recording_do_not_replace_those_before(folder: FeatureFolder) -> None:
    """Of one that was edited, or with other settings; the index says which are the newest."""
    before = folder.path / folder.entries()["b.wav"].arrays["layer3"].file
    content = before.read_bytes()
    for causes, value in (("c", 0), ("other", 5), ("other", 5)):
        array = folder.write(entry("b.wav", causes=causes), {"layer3": np.full(4, value, np.float32)}).arrays["layer3"]
        assert before.read_bytes() == content
        np.testing.assert_array_equal(jukebox.load_features(folder.path).of("b.wav")["layer3"], [value] * 4)
        assert (folder.path / array.file == before) == (value == 0)
    assert len(list(folder.path.glob("arrays/b.wav*"))) == 2


def test_a_recording_is_current_for_its_causes_and_its_audio(folder: FeatureFolder) -> None:
    known = folder.entries()["b.wav"]
    assert folder.is_current(known, "c", SOURCE)
    assert not folder.is_current(known, "other", SOURCE)
    assert not folder.is_current(known, "c", SourceState(10, 21))
    assert folder.is_current(known, "c", SourceState(10, 21), "a")
    assert not folder.is_current(known, "c", SOURCE, "b")
    assert not folder.is_current(folder.entries()["bad.wav"], "c", SOURCE)
    assert not folder.is_current(None, "c", SOURCE)
    (folder.path / "arrays/b.wav.layer3.npy").write_bytes(b"cut")
    assert not folder.is_current(known, "c", SOURCE)


@pytest.mark.parametrize("damage", ['{"name": "b.wav", "pa', "null", "[1]", '{"name": 3}', "\x00\ufffd"])
def test_a_damaged_line_costs_its_recording_alone(folder: FeatureFolder, damage: str) -> None:
    with (folder.path / INDEX).open("a") as file:
        file.write(damage)
    folder.append(entry("later.wav", error="short"))
    assert set(folder.entries()) == {"b.wav", "deep/a.wav", "bad.wav", "later.wav"}


def test_a_damaged_array_is_reported(folder: FeatureFolder) -> None:
    path = folder.path / "arrays/b.wav.layer3.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = jukebox.load_features(folder.path)
    with pytest.raises(DamagedError, match=r"b.wav.layer3.npy is missing or damaged; delete it"):
        found.verify()
    path.write_bytes(b"x" * len(content))
    with pytest.raises(DamagedError):
        _ = found[3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no features.json"),
        ("{", "cannot be read"),
        ("[]", "is no manifest"),
        ("[" * 100_000, "cannot be read"),
        ('{"schema": 9}', "newer than"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(StoreError, match=message):
        jukebox.load_features(tmp_path)


@pytest.mark.parametrize("name", [INDEX, MANIFEST])
@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused_at_once(folder: FeatureFolder, name: str, kind: str) -> None:
    path = folder.path / name
    path.unlink()
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(StoreError, match="is not a file; remove it"):
        jukebox.load_features(folder.path)
    if name == INDEX:
        with pytest.raises(StoreError, match="is not a file; remove it"):
            folder.append(entry("late.wav"))


def test_a_full_disk_is_one_error(folder: FeatureFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for write in (
        lambda: folder.append(entry("late.wav")),
        lambda: folder.write(entry("late.wav"), {"layer1": np.zeros(3)}),
        lambda: folder.write_manifest({}),
    ):
        with pytest.raises(StoreError, match=r"cannot be written .*finished recordings are kept: make room"):
            write()
    monkeypatch.undo()
    assert jukebox.load_features(folder.path).names == ["b.wav", "deep/a.wav"]


def test_names_that_are_not_utf8_are_kept(folder: FeatureFolder) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    folder.write(entry(name), {"layer3": np.zeros(4, np.float32)})
    assert folder.entries()[name].name == name
    (folder.path / MANIFEST).write_text('{"schema": 1, "recordings": [[1], {}, "b.wav"]}')
    assert jukebox.load_features(folder.path).names == ["b.wav"]
