"""Locks on files: one holder at a time, waiting for it, and no lock on a file that was removed."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base.locks import FileLock, locked
from jukebox_core.errors import DiskError
from tests.helpers.damage import damage

if TYPE_CHECKING:
    from pathlib import Path


def test_one_object_holds_a_lock(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "folder" / "lock"), FileLock(tmp_path / "folder" / "lock")
    assert not first.is_taken()
    assert first.acquire()
    assert (first.held, second.held, second.is_taken()) == (True, False, True)
    assert not second.acquire()
    first.write("the holder")
    first.write("again")
    assert first.path.read_text() == "again"
    first.release()
    first.release()
    assert second.acquire(blocking=True)
    second.release()


def test_a_block_waits_for_the_holder_and_reports_it_once(tmp_path: Path) -> None:
    waited, order = threading.Event(), []

    def second() -> None:
        with locked(tmp_path / "lock", on_wait=waited.set):
            order.append("second")

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    with locked(tmp_path / "lock", on_wait=lambda: order.append("waits")):
        pass
    assert order == ["first", "second"]


def test_a_lock_on_a_removed_file_excludes_nobody(tmp_path: Path) -> None:
    lock, later = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert lock.acquire()
    assert not later.acquire()
    lock.path.unlink()
    assert later.acquire()
    lock.release()
    assert not FileLock(tmp_path / "lock").acquire()
    later.release()


def test_waiting_for_a_file_that_is_removed_takes_the_new_one(tmp_path: Path) -> None:
    path, waits = tmp_path / "lock", threading.Event()
    holder, got = FileLock(path), []

    def second() -> None:
        with locked(path, on_wait=waits.set):
            got.append(path.exists())

    assert holder.acquire()
    thread = threading.Thread(target=second)
    thread.start()
    assert waits.wait(10)
    path.unlink()
    holder.release()
    thread.join(10)
    assert got == [True]


def test_a_folder_that_cannot_be_made_is_an_error_and_leaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    for _ in range(3):
        with pytest.raises(OSError, match="file"):
            FileLock(tmp_path / "file" / "lock").acquire()
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


@pytest.mark.parametrize("kind", ["folder", "full folder", "pipe", "link", "dangling link", "loop", "device"])
def test_what_is_in_the_place_of_a_lock_is_kept_under_another_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock"
    path.write_text("content")
    damage(path, kind)
    with locked(path):
        assert path.is_file()
        assert not path.is_symlink()
        assert not FileLock(path).acquire()
    assert os.path.lexists(tmp_path / "lock.damaged")


def test_a_lock_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with pytest.raises(DiskError, match="something that is no folder is in its path"):
        FileLock(tmp_path / "file" / "lock").acquire()
