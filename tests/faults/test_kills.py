"""Processes killed at random moments, on disk and on S3: few tokens are lost, results are equal, no run hangs."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from jukebox_core.store.store import TokenStore
from tests.helpers.fault_songs import FLUSH, SAMPLES, Song
from tests.helpers.fault_songs import fork_server as open_fork_server
from tests.helpers.models.own_model import write_own_model
from tests.helpers.servers.servers import S3Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.helpers.fault_songs import ForkServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KILLS = {"disk": 44, "s3": 20}
LENGTH = "seconds=0.6"
RECLAIM_SECONDS = 5.0  # between SIGTERM and the end of a machine that is reclaimed


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("model"), width=128)


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    with open_fork_server(tmp_path_factory.mktemp("fork_server")) as server:
        yield server


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[dict[str, str]]:
    server = S3Server(tmp_path / "s3.log")
    try:
        server.make_bucket("songs")
        yield server.environment
    finally:
        server.stop()


@pytest.mark.parametrize("place", ["disk", pytest.param("s3", marks=pytest.mark.endurance)])
def test_runs_killed_at_random_moments_are_resumed(
    place: str,
    model: Path,
    fork_server: ForkServer,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(20261120)
    environment = {} if place == "disk" else request.getfixturevalue("bucket")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    root = str(tmp_path / "store") if place == "disk" else "s3://songs"
    songs, kills, different, slowest = [], 0, 0, 0.0
    while kills < KILLS[place]:
        number = len(songs)
        plain, killed = (
            Song(fork_server, model, tmp_path / kind, f"{root}/{kind}", number, (LENGTH,), environment)
            for kind in (f"plain{number}", f"killed{number}")
        )
        plain.finish()
        songs.append(killed)
        while kills < KILLS[place] and killed.start_and_signal(signal.SIGKILL, chance.uniform(0.0, 1.5)):
            assert killed.wait() == -signal.SIGKILL
            kills += 1
        began = time.monotonic()
        killed.finish()
        slowest = max(slowest, time.monotonic() - began)
        different += killed.outcome() != plain.outcome()
        assert set(killed.draws()) == set(plain.draws())
        store = TokenStore(killed.store)
        sealed = store.keys()
        assert sealed
        assert store.partials() == []
        for key in sealed:
            store.read(key)  # raises if a sealed window is damaged
    lost, worst = sum(song.redrawn for song in songs), max(song.most_redrawn for song in songs)
    record_property(
        "figures",
        f"{place}: {kills} kills over {len(songs)} songs; tokens lost {lost} ({lost / kills / SAMPLES:.1f} a "
        f"kill and sample, {worst} at most, of {FLUSH} allowed); results that differ {different}; damaged files "
        f"used 0; hung runs 0; slowest last resume {slowest:.1f} s",
    )
    assert different == 0
    assert worst <= FLUSH


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stores_all_tokens_and_stops_the_run(
    number: signal.Signals,
    model: Path,
    fork_server: ForkServer,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    plain = Song(fork_server, model, tmp_path / "plain", str(tmp_path / "store1"))
    plain.finish()
    song = Song(fork_server, model, tmp_path / "stopped", str(tmp_path / "store2"))
    stops, slowest = 0, 0.0
    for draws in (20, 400, 900, 1500):
        song.start()
        song.wait_for(draws=draws)
        os.kill(song.process, number)
        asked = time.monotonic()
        assert song.wait() == 130
        assert "all tokens drawn so far are stored" in song.log
        stops, slowest = stops + 1, max(slowest, time.monotonic() - asked)
    song.finish()
    record_property(
        "figures", f"{number.name}: {stops} times, stored and stopped in {slowest:.2f} s; tokens lost {song.redrawn}"
    )
    assert slowest < RECLAIM_SECONDS
    assert song.outcome() == plain.outcome()
    assert song.redrawn == 0, "a process that is stopped stores every token first"
