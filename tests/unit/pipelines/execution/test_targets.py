"""What `encode` and `decode` write: made once, continued after a kill, and never over another file."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import ConfigError
from pipelines.execution.targets import RECORD_NAME, targets

if TYPE_CHECKING:
    from pathlib import Path

HOW, WEIGHTS = {"levels": [0]}, "w" * 64


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "song.wav"
    path.write_bytes(b"sound")
    return path


def make(source: Path) -> Path:
    (target,) = targets([str(source)], str(source.parent / "codes"), ".npz")
    target.path.parent.mkdir(exist_ok=True)
    if not target.is_made(HOW, WEIGHTS):
        with target.recorded(HOW, WEIGHTS):
            target.path.write_bytes(b"codes of " + source.read_bytes())
    return target.path


def test_the_same_command_makes_nothing_twice(source: Path) -> None:
    path = make(source)
    before = path.stat().st_mtime_ns
    assert make(source) == path
    assert path.stat().st_mtime_ns == before


def test_a_file_that_a_killed_command_had_just_written_counts_as_made(source: Path) -> None:
    (target,) = targets([str(source)], str(source.parent / "codes"), ".npz")
    target.path.parent.mkdir()
    with suppress(KeyboardInterrupt), target.recorded(HOW, WEIGHTS):
        target.path.write_bytes(b"codes of sound")
        raise KeyboardInterrupt
    assert target.is_made(HOW, WEIGHTS)


@pytest.mark.parametrize("change", ["source", "settings", "weights", "no weights", "target", "record", "stranger"])
def test_another_file_in_its_place_is_refused(source: Path, change: str) -> None:
    path, how, weights = make(source), HOW, WEIGHTS
    if change == "source":
        source.write_bytes(b"other sound")
    elif change == "settings":
        how = {"levels": [0, 1]}
    elif change == "weights":
        weights = "x" * 64
    elif change == "target":
        path.write_bytes(b"edited")
    elif change == "record":
        (path.parent / RECORD_NAME).write_text("[]")
    elif change == "stranger":
        (path.parent / RECORD_NAME).unlink()
    (target,) = targets([str(source)], str(path.parent), ".npz")
    with pytest.raises(ConfigError, match="nothing is overwritten: remove it, or choose another folder"):
        target.is_made(how, None if change == "no weights" else weights)


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"would both become .*; rename one"):
        targets([f"{tmp_path}/a/song.wav", f"{tmp_path}/b/song.mp3"], str(tmp_path), ".npz")
