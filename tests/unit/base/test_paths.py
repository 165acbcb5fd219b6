"""The cache folder: XDG_CACHE_HOME is honoured, the place of earlier versions is still found, and all users agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import jukebox_core
from jukebox_core.base.paths import cache_dir
from jukebox_core.base.yaml_files import load_yaml
from jukebox_core.models import __main__ as standalone
from jukebox_core.models.config import WeightsConfig
from jukebox_core.runtime.native import compiled
from jukebox_core.store.spool_adoption import spool_folder
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path


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
