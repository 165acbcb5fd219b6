"""Runs whose store fails in the middle: a bucket that answers wrongly, late or never, and a disk that is full."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from jukebox_core.store.store import TokenStore
from tests.helpers.fault_songs import Song, cradle
from tests.helpers.models.own_model import write_own_model
from tests.helpers.servers.servers import S3Server, gate_before

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.helpers.fault_songs import Cradle
    from tests.helpers.servers.servers import Gate

pytestmark = pytest.mark.slow

LENGTH = "seconds=0.2"
OUTAGE = 2.5  # seconds: longer than a write waits for its bucket


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("model"), width=128)


@pytest.fixture(scope="module")
def births(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cradle]:
    with cradle(tmp_path_factory.mktemp("cradle")) as made:
        yield made


@pytest.fixture(scope="module")
def plain(births: Cradle, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Song:
    """The song as a run makes it that nothing happens to."""
    folder = tmp_path_factory.mktemp("plain")
    song = Song(births, model, folder, str(folder / "store"), more=(LENGTH,))
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


def far_song(births: Cradle, model: Path, folder: Path, s3: S3Server, gate: Gate, *more: str) -> Song:
    """A song whose tokens go through the gate."""
    environment = s3.environment | {"AWS_ENDPOINT_URL": gate.url, "JUKEBOX_SPOOL": str(folder / "spool")}
    overrides = (LENGTH, *more)
    return Song(births, model, folder, f"s3://songs/{folder.name}", more=overrides, environment=environment)


@pytest.mark.parametrize("mode", ["500", "503", "refuse", "stall", "slow", "lose", "cut"])
def test_a_bucket_that_fails_for_a_while_changes_nothing(
    mode: str, births: Cradle, model: Path, plain: Song, s3: S3Server, gate: Gate, tmp_path: Path
) -> None:
    song = far_song(births, model, tmp_path, s3, gate)
    song.begin()
    song.wait_for(draws=100)
    gate.mode, gate.delay = mode, 0.5
    time.sleep(OUTAGE)
    gate.mode = "pass"
    assert song.end() == 0, song.said[-3000:]
    assert song.outcome() == plain.outcome()
    assert song.draws() == plain.draws(), "no token is drawn twice, and none is left out"
    assert not [*tmp_path.glob("spool/**/*.safetensors")]


def test_a_bucket_that_stays_away_stops_the_run_with_everything_kept(
    births: Cradle, model: Path, plain: Song, s3: S3Server, gate: Gate, tmp_path: Path
) -> None:
    song = far_song(births, model, tmp_path, s3, gate, "storage.spool.seconds=2")
    song.begin()
    song.wait_for(draws=100)
    gate.mode = "refuse"
    assert song.end() == 1
    assert "the same command delivers it and goes on" in song.said.splitlines()[-1]
    assert [*tmp_path.glob("spool/**/*.safetensors")]
    gate.mode = "pass"
    song.finish()
    assert song.outcome() == plain.outcome()
    assert song.again == 0


def test_a_bucket_that_is_away_at_the_start_is_told_at_once(
    births: Cradle, model: Path, s3: S3Server, gate: Gate, tmp_path: Path
) -> None:
    song = far_song(births, model, tmp_path, s3, gate)
    gate.mode = "403"
    song.begin()
    assert song.end() == 1
    assert "access to s3://songs" in song.said.splitlines()[-1]
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


def test_a_disk_that_fills_up_stops_the_run_and_the_same_command_goes_on(
    births: Cradle, model: Path, plain: Song, small_disk: Path, tmp_path: Path
) -> None:
    song = Song(births, model, tmp_path / "song", str(small_disk / "store"), more=(LENGTH,))
    ballast = small_disk / "ballast"
    for draws in (100, 600):
        song.begin()
        song.wait_for(draws=draws)
        with contextlib.suppress(OSError):
            ballast.write_bytes(b"x" * 2**21)
        assert song.end() == 1
        assert "no space left in" in song.said.splitlines()[-1]
        song.begin()
        assert song.end() == 1, "a disk that is full is told at the start"
        store = TokenStore(song.store)
        sealed = store.keys()
        for key in sealed:
            store.read(key)
        ballast.unlink()
    song.finish()
    assert song.outcome() == plain.outcome()
