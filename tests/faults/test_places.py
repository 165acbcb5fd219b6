"""Runs whose store fails in the middle: a bucket with errors, delays or no answer, and a full disk."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from jukebox_core.store.store import TokenStore
from tests.helpers.fault_songs import Song
from tests.helpers.fault_songs import fork_server as open_fork_server
from tests.helpers.models.own_model import write_own_model
from tests.helpers.servers.servers import S3Server, gate_before

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.helpers.fault_songs import ForkServer
    from tests.helpers.servers.servers import Gate

pytestmark = pytest.mark.slow

LENGTH = "seconds=0.2"
OUTAGE = 2.5  # seconds: longer than a write waits for its bucket


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("model"), width=128)


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    with open_fork_server(tmp_path_factory.mktemp("fork_server")) as server:
        yield server


@pytest.fixture(scope="module")
def plain(fork_server: ForkServer, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Song:
    """The song of a run without faults."""
    folder = tmp_path_factory.mktemp("plain")
    song = Song(fork_server, model, folder, str(folder / "store"), more=(LENGTH,))
    song.finish()
    return song


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3") / "log")
    server.make_bucket("songs")
    yield server
    server.stop()


@pytest.fixture
def gate(s3: S3Server) -> Iterator[Gate]:
    with gate_before(s3.url) as gate:
        yield gate


def remote_song(fork_server: ForkServer, model: Path, folder: Path, s3: S3Server, gate: Gate, *more: str) -> Song:
    """A song whose store is behind the gate."""
    environment = s3.environment | {"AWS_ENDPOINT_URL": gate.url, "JUKEBOX_SPOOL": str(folder / "spool")}
    overrides = (LENGTH, *more)
    return Song(fork_server, model, folder, f"s3://songs/{folder.name}", more=overrides, environment=environment)


@pytest.mark.parametrize(
    "mode",
    [
        "500",
        "refuse",
        "cut",
        *(pytest.param(mode, marks=pytest.mark.endurance) for mode in ("503", "stall", "slow", "lose")),
    ],
)
def test_a_bucket_that_fails_for_a_while_changes_nothing(
    mode: str, fork_server: ForkServer, model: Path, plain: Song, s3: S3Server, gate: Gate, tmp_path: Path
) -> None:
    song = remote_song(fork_server, model, tmp_path, s3, gate)
    song.start()
    song.wait_for(draws=100)
    gate.mode, gate.delay = mode, 0.5
    time.sleep(OUTAGE)
    gate.mode = "pass"
    assert song.wait() == 0, song.log[-3000:]
    assert song.outcome() == plain.outcome()
    assert song.draws() == plain.draws(), "every token is drawn exactly once"
    assert not [*tmp_path.glob("spool/**/*.safetensors")]


def test_a_bucket_that_stays_unreachable_stops_the_run_and_no_token_is_lost(
    fork_server: ForkServer, model: Path, plain: Song, s3: S3Server, gate: Gate, tmp_path: Path
) -> None:
    song = remote_song(fork_server, model, tmp_path, s3, gate, "storage.spool.seconds=2")
    song.start()
    song.wait_for(draws=100)
    gate.mode = "refuse"
    assert song.wait() == 1
    assert "the same command delivers it and goes on" in song.log.splitlines()[-1]
    assert [*tmp_path.glob("spool/**/*.safetensors")]
    gate.mode = "pass"
    song.finish()
    assert song.outcome() == plain.outcome()
    assert song.redrawn == 0


def test_a_bucket_that_refuses_access_is_reported_at_the_start(
    fork_server: ForkServer, model: Path, s3: S3Server, gate: Gate, tmp_path: Path
) -> None:
    song = remote_song(fork_server, model, tmp_path, s3, gate)
    gate.mode = "403"
    song.start()
    assert song.wait() == 2
    assert "access to s3://songs" in song.log.splitlines()[-1]
    assert not song.run.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"cannot mount a small disk here ({made.stderr.decode().strip()})")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_stops_the_run_and_the_same_command_resumes(
    fork_server: ForkServer, model: Path, plain: Song, small_disk: Path, tmp_path: Path
) -> None:
    song = Song(fork_server, model, tmp_path / "song", str(small_disk / "store"), more=(LENGTH,))
    ballast = small_disk / "ballast"
    for draws in (100, 600):
        song.start()
        song.wait_for(draws=draws)
        with contextlib.suppress(OSError):
            ballast.write_bytes(b"x" * 2**21)
        assert song.wait() == 1
        assert "no space left in" in song.log.splitlines()[-1]
        song.start()
        assert song.wait() == 1, "a full disk is reported at the start"
        store = TokenStore(song.store)
        sealed = store.keys()
        for key in sealed:
            store.read(key)
        ballast.unlink()
    song.finish()
    assert song.outcome() == plain.outcome()
