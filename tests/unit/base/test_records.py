"""What is in the place of a file is renamed, whatever other processes do in the same moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jukebox_core.base import records
from jukebox_core.base.records import clear_place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder in the place of a file."""
    path = tmp_path / "lock"
    path.mkdir()
    return path


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object]) -> None:
    """Lets another process do something between the look at a path and its renaming."""
    rename = records.set_aside

    def set_aside(path: Path) -> Path:
        act(path)
        return rename(path)

    monkeypatch.setattr(records, "set_aside", set_aside)


def test_a_folder_is_renamed_and_a_file_stays(place: Path) -> None:
    clear_place(place)
    assert not place.exists()
    assert place.with_name("lock.damaged").is_dir()
    place.write_text("file")
    clear_place(place)
    assert place.read_text() == "file"


def test_what_is_gone_meanwhile_is_no_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(monkeypatch, lambda path: path.rmdir())
    clear_place(place)
    assert not place.exists()


def test_a_file_that_another_process_has_made_meanwhile_keeps_its_place(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def make(path: Path) -> None:
        path.rmdir()
        path.write_text("theirs")
        made.append(path.stat().st_ino)

    meanwhile(monkeypatch, make)
    clear_place(place)
    assert place.read_text() == "theirs"
    assert [place.stat().st_ino] == made, "a lock on it must still exclude others"
    assert list(place.parent.iterdir()) == [place]
