"""Paths that users write, and the cache folder: XDG_CACHE_HOME is honoured, and all its users agree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import jukebox_core
from jukebox_core.base.paths import cache_dir, check_name, files_below, user_path
from jukebox_core.base.yaml_files import load_yaml
from jukebox_core.errors import ConfigError
from jukebox_core.models import __main__ as standalone
from jukebox_core.models.config import WeightsConfig
from jukebox_core.runtime.native import compiled
from jukebox_core.store.spool_adoption import spool_folder
from tests.helpers.paths import ROOT


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of earlier versions; XDG_CACHE_HOME is another one, and neither exists yet."""
    for name in ("JUKEBOX_WEIGHTS", "JUKEBOX_SPOOL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / ".cache/jukebox"


@pytest.fixture
def new(old: Path) -> Path:
    return old.parents[1] / "xdg/jukebox"


def test_without_the_variable_it_is_below_the_home_folder(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == old
    assert cache_dir("native") == old / "native"


def test_an_old_library_is_used_until_the_new_folder_has_one(old: Path, new: Path) -> None:
    assert cache_dir() == new
    (old / "5b").mkdir(parents=True)
    (new / "native").mkdir(parents=True)  # kernels of an earlier version, which honoured the variable for them alone
    assert cache_dir() == old
    (new / "5b").mkdir()
    assert cache_dir() == new


def test_weights_are_kept_there_unless_settings_or_the_environment_name_a_folder(
    new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_yaml(ROOT / "conf/weights/default.yaml")["folder"] is None
    assert WeightsConfig().home == new
    monkeypatch.setenv("JUKEBOX_WEIGHTS", "~/weights")
    assert WeightsConfig().home == new.parents[1] / "weights"
    assert WeightsConfig(folder="/elsewhere").home.parts == ("/", "elsewhere")


def test_the_python_interface_keeps_weights_there(new: Path) -> None:
    assert jukebox_core.load_model("mini")._weights.home == new


def test_the_standalone_fetch_keeps_weights_there(new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []

    def fetch(_names: object, weights: WeightsConfig) -> dict[str, Any]:
        folders.append(weights.home)
        return {}

    monkeypatch.setattr(standalone, "fetch", fetch)
    assert standalone.main(["mini"]) == 0
    assert folders == [new]


def test_spools_are_kept_there(new: Path) -> None:
    assert spool_folder("s3://bucket").parent == new / "spool"


def test_compiled_kernels_are_kept_there(new: Path) -> None:
    assert compiled._cached_path().parent == new / "native"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("~nobodyx/y", "begins with ~nobodyx, but no home folder of that name is known"),
        ("~no\nbody", r"path '~no\\nbody' has the control character '\\n'"),
        ("a\0b", r"has the control character '\\x00'"),
        ("\x1b[31m", "has the control character"),
        ("a/" + "x" * 256 + "/b", "has a part of 256 bytes; a file's or folder's name has at most 255: shorten it"),
        ("é" * 128, "has a part of 256 bytes"),
        ("x/" * 2048 + "y", "has 4097 bytes; a path has at most 4095: shorten it"),
    ],
)
def test_a_path_that_no_file_can_have_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        user_path(text)
    assert len(str(caught.value)) < 300


def test_usual_paths_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a b/é") == tmp_path / "a b/é"
    assert str(user_path("x" * 255 + "/" + "é" * 127)) == "x" * 255 + "/" + "é" * 127
    assert str(user_path("caf\udce9/\u202e")) == "caf\udce9/\u202e"
    assert user_path(tmp_path) == tmp_path
    assert user_path("a/~x").parts == ("a", "~x")


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        *((name, "plain folder name") for name in ("", ".x", "..", "a/b", "a\\b")),
        ("a\nb", "has the control character"),
        ("x" * 201, "201 bytes long; a name has at most 200"),
    ],
)
def test_a_name_that_no_folder_should_have_is_refused(name: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^run.name is .*{rule}"):
        check_name(name, "run.name")
    check_name("Älteres Stück (2)", "run.name")


def test_only_one_function_makes_paths_of_what_users_write() -> None:
    calls = [
        f"{file.relative_to(ROOT)}:{number}"
        for package in ("jukebox_core", "stages", "pipelines")
        for file in (ROOT / package).rglob("*.py")
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if "expanduser(" in line
    ]
    assert [call.partition(":")[0] for call in calls] == ["jukebox_core/base/paths.py"], calls


def test_files_are_found_while_folders_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b.wav", "deep/A.WAV", "gone/c.wav", ".hidden.wav", "notes.txt", "closed/d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to("nowhere")
    listed = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == "gone":
            raise FileNotFoundError(2, "No such file or directory", str(path))
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert files_below(tmp_path, (".wav",)) == [tmp_path / "b.wav", tmp_path / "deep/A.WAV"]
    assert [record.getMessage() for record in caplog.records if "closed" in record.getMessage()] == [
        f"folder {tmp_path / 'closed'} is left out: it cannot be listed (Permission denied)"
    ]
