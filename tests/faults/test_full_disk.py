"""A disk that is full, or fails, at any call that changes a file: one line says so, and the same bits come later."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.helpers.fault_songs import Song
from tests.helpers.fault_songs import fork_server as open_fork_server
from tests.helpers.models.own_model import write_own_model
from tests.helpers.paths import TESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.helpers.fault_songs import ForkServer

pytestmark = pytest.mark.slow

LENGTH = ("seconds=0.1", "runner.preview_seconds=0", "storage.flush_seconds=0.05")  # and snapshots
NEVER = 10**9
FEW = 8  # of all calls, evenly spread
KINDS = {
    errno.ENOSPC: "no space left in",
    errno.EDQUOT: "no space left in",
    errno.EROFS: "its disk is read-only",
    errno.EIO: "its disk fails",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("model"), width=128)


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler for the failing disk")
    folder = tmp_path_factory.mktemp("fork_server")
    library = folder / "full_disk.so"
    source = TESTS / "faults" / "full_disk.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    with open_fork_server(folder, {**os.environ, "LD_PRELOAD": str(library)}) as server:
        yield server


@pytest.fixture(scope="module")
def plain(fork_server: ForkServer, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Song:
    """The song of a disk that does not fail, which counts the calls."""
    song = song_in(tmp_path_factory.mktemp("plain") / "song", fork_server, model, NEVER)
    song.finish()
    return song


def song_in(folder: Path, fork_server: ForkServer, model: Path, first: int, error: int = errno.ENOSPC) -> Song:
    full = (str(folder), first, error)
    return Song(fork_server, model, folder, str(folder / "store"), more=LENGTH, report=True, full=full)


def calls_of(song: Song) -> int:
    return int(song.log.splitlines()[-1].removesuffix(" calls"))


def check_fails_at(first: int, error: int, fork_server: ForkServer, model: Path, plain: Song, folder: Path) -> bool:
    """A song whose disk fails from a call on; returns whether it could do without what was refused."""
    song = song_in(folder / f"{first}-{error}", fork_server, model, first, error)
    song.start()
    status = song.wait()
    lines = [line for line in song.log.splitlines() if line.startswith("jukebox: ")]
    assert "Traceback" not in song.log, f"call {first}: {song.log}"
    assert status in (0, 1), f"call {first}: {song.log}"
    if status:
        assert KINDS[error] in lines[-1], f"call {first}: {song.log}"
    song.full = None
    song.finish()
    assert song.outcome() == plain.outcome()
    assert not [*song.folder.rglob(".*.tmp")], "leavings are swept"
    shutil.rmtree(song.folder)
    return not status


@pytest.mark.endurance
def test_a_disk_that_fails_at_some_calls(fork_server: ForkServer, model: Path, plain: Song, tmp_path: Path) -> None:
    calls = calls_of(plain)
    assert calls > 100
    for number in range(FEW):
        error = [*KINDS][number % len(KINDS)]
        check_fails_at(number * calls // FEW, error, fork_server, model, plain, tmp_path)


@pytest.mark.endurance
@pytest.mark.timeout(3600)
def test_a_disk_that_is_full_at_any_call(
    fork_server: ForkServer,
    model: Path,
    plain: Song,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    calls = calls_of(plain)
    done = sum(check_fails_at(first, errno.ENOSPC, fork_server, model, plain, tmp_path) for first in range(calls))
    record_property(
        "figures", f"a full disk at each of {calls} calls: one line and the same bits; {done} songs finished"
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk with options such as ``size=10k``, in the place of the one before."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        if os.path.ismount(folder):
            subprocess.run(["umount", str(folder)], check=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip(f"cannot mount a small disk here ({done.stderr.decode().strip()})")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.endurance
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("limit", "enough", "step"), [("size", 1500, 10), ("nr_inodes", 120, 3)])
def test_disks_of_every_size(
    limit: str,
    enough: int,
    step: int,
    fork_server: ForkServer,
    model: Path,
    plain: Song,
    small_disk: Callable[[str], Path],
) -> None:
    """From a disk that takes nothing to one that takes all, in steps of 10 kB, or of a few inodes."""
    what = "no space left in" if limit == "size" else "no inodes left in"
    for size in range(step, enough, step):
        folder = small_disk(f"{limit}={size}{'k' if limit == 'size' else ''}")
        song = song_in(folder, fork_server, model, NEVER)
        song.full = None
        for left in folder.parent.glob("disk.*"):
            left.unlink()
        song.start()
        status = song.wait()
        assert "Traceback" not in song.log
        if status == 0:
            assert song.outcome() == plain.outcome()
            return
        assert status == 1
        assert what in song.log.splitlines()[-1], f"{size}: {song.log}"
        subprocess.run(["mount", "-o", "remount,size=64m,nr_inodes=100000", str(folder)], check=True)
        song.finish()
        assert song.outcome() == plain.outcome()
    pytest.fail("no disk was large enough")
