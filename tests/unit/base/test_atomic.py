"""Files appear whole or not at all; a write that fails says why; leavings of kills are swept, and nothing else."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base import atomic
from jukebox_core.base.atomic import atomic_write, locked_temporary, sweep
from jukebox_core.errors import DiskError
from tests.helpers.small_files import small_files

if TYPE_CHECKING:
    from pathlib import Path

KILLED = """
import os, signal, sys
from pathlib import Path
from jukebox_core.base.atomic import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for content in (b"one", b"two"):
        with atomic_write(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert [*path.parent.iterdir()] == [path]


def test_a_write_beyond_the_limit_is_one_clear_error_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(DiskError, match="cannot be written: it is larger than") as raised, small_files(1000):  # noqa: SIM117
        with atomic_write(path) as file:
            file.write(bytes(100_000))
    assert raised.value.errno == errno.EFBIG
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_disk_that_fails_at_any_call_is_one_clear_error(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)  # `open` is that of the folder, after the rename
    with pytest.raises(DiskError, match="another place") as raised, atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert raised.value.errno == number
    assert ("no space left in" in str(raised.value)) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert not [*tmp_path.glob(".*")]


def test_a_disk_without_inodes_is_distinguished_from_one_without_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    found = list(os.statvfs(tmp_path))
    found[7] = 0  # f_favail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(found))
    assert str(atomic.write_error(tmp_path / "file", full)).startswith(f"no inodes left in {tmp_path} for file")


@pytest.mark.parametrize("occupied", ["file", "file/below"])
def test_something_else_in_the_place_of_a_file_is_named(occupied: str, tmp_path: Path) -> None:
    folder = tmp_path / "file"
    if occupied == "file":
        folder.mkdir()
    else:
        folder.write_bytes(b"")
    with pytest.raises(DiskError, match=r"cannot be written: .*move that away"), atomic_write(tmp_path / occupied):
        pass


def test_the_error_is_an_oserror_with_its_number_and_can_be_pickled(tmp_path: Path) -> None:
    error = atomic.write_error(tmp_path / "file", OSError(errno.EIO, "Input/output error"))
    assert isinstance(error, OSError)
    assert error.errno == errno.EIO
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "audio" / "sound.wav"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode < 0
    [left] = path.parent.iterdir()
    stranger = tmp_path / "run" / ".notes.tmp"
    stranger.write_bytes(b"not ours")
    fifo = tmp_path / "run" / ".pipe.01234567.tmp"
    os.mkfifo(fifo)
    with locked_temporary(path.parent, "other") as (living, _):
        assert sweep(tmp_path / "run") == (2, len("half"))
        assert living.exists()
    assert not left.exists()
    assert not fifo.exists()
    assert stranger.exists()


def test_a_file_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, swept = atomic._try_lock, []

    def sweep_first(descriptor: int) -> bool:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].unlink()
        return real(descriptor)

    monkeypatch.setattr(atomic, "_try_lock", sweep_first)
    with atomic_write(tmp_path / "file") as file:
        file.write(b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
