"""Folders of features in `jukebox runs list` and `show`: finished, with recordings that were left out, and damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.features.config import MANIFEST
from jukebox_core.features.folder import Entry, FeatureFolder
from pipelines.cli import runs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of runs that holds features of two recordings, and a damaged folder of features."""
    folder = FeatureFolder(tmp_path / "features/mine")
    folder.write_manifest(
        {
            "status": "finished", "model": "mini", "layers": [4, 8], "recipe": {"name": "default"},
            "recordings": ["a.wav", "b.wav"],
        }
    )  # fmt: skip
    folder.write(Entry(name="a.wav", path="a.wav", causes="c", seconds=90.0), {"layer4": np.zeros(2)})
    folder.append(Entry(name="b.wav", path="b.wav", causes="c", error="it is no audio"))
    torn = tmp_path / "features/torn"
    torn.mkdir()
    (torn / MANIFEST).write_text("{")
    return tmp_path


def test_features_are_listed_below_runs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs.run(["list", f"--root={root}"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["mine", "mini", "finished", "1", "of", "2", "1", "layers", "4,", "8"] in lines
    assert ["torn", "damaged"] in lines


@pytest.mark.parametrize("named", ["mine", "{root}/features/mine"])
def test_a_folder_of_features_is_shown_by_name_and_by_path(
    root: Path, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    runs.run(["show", named.format(root=root), f"--root={root}"])
    shown = capsys.readouterr().out
    assert "recipe: default" in shown
    assert "1 finished" in shown
    assert "1 left out" in shown
    assert "b.wav: it is no audio" in shown


def test_no_features_add_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs.run(["list", f"--root={tmp_path}"])
    assert capsys.readouterr().out == f"{tmp_path} holds no runs\n"
