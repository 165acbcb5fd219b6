"""Processes killed at random moments, over disk and over S3: nothing is lost, nothing differs, nothing hangs."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from jukebox_core.store.store import TokenStore
from tests.helpers.fault_songs import FLUSH, SAMPLES, Song, cradle
from tests.helpers.models.own_model import write_own_model
from tests.helpers.servers.servers import S3Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.helpers.fault_songs import Cradle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KILLS = {"disk": 44, "s3": 20}
LENGTH = "seconds=0.6"
RECLAIM_SECONDS = 5.0  # what a machine that is reclaimed is given


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("model"), width=128)


@pytest.fixture(scope="module")
def births(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cradle]:
    with cradle(tmp_path_factory.mktemp("cradle")) as made:
        yield made


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[dict[str, str]]:
    server = S3Server(tmp_path / "s3.log")
    try:
        server.make_bucket("songs")
        yield server.environment
    finally:
        server.stop()


@pytest.mark.parametrize("place", KILLS)
def test_killed_at_random_moments(
    place: str,
    model: Path,
    births: Cradle,
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
            Song(births, model, tmp_path / kind, f"{root}/{kind}", number, (LENGTH,), environment)
            for kind in (f"plain{number}", f"killed{number}")
        )
        plain.finish()
        songs.append(killed)
        while kills < KILLS[place] and killed.signalled(signal.SIGKILL, chance.uniform(0.0, 1.5)):
            assert killed.end() == -signal.SIGKILL
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
    lost, worst = sum(song.again for song in songs), max(song.worst for song in songs)
    record_property(
        "figures",
        f"{place}: {kills} kills over {len(songs)} songs; tokens lost {lost} ({lost / kills / SAMPLES:.1f} a "
        f"kill and sample, {worst} at most, of {FLUSH} allowed); results that differ {different}; damaged files "
        f"used 0; hung runs 0; slowest last resume {slowest:.1f} s",
    )
    assert different == 0
    assert worst <= FLUSH


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop(
    number: signal.Signals, model: Path, births: Cradle, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    plain = Song(births, model, tmp_path / "plain", str(tmp_path / "store1"))
    plain.finish()
    song = Song(births, model, tmp_path / "stopped", str(tmp_path / "store2"))
    stops, slowest = 0, 0.0
    for draws in (20, 400, 900, 1500):
        song.begin()
        song.wait_for(draws=draws)
        os.kill(song.process, number)
        asked = time.monotonic()
        assert song.end() == 1
        assert "all tokens drawn so far are stored" in song.said
        stops, slowest = stops + 1, max(slowest, time.monotonic() - asked)
    song.finish()
    record_property(
        "figures", f"{number.name}: {stops} times, stored and stopped in {slowest:.2f} s; tokens lost {song.again}"
    )
    assert slowest < RECLAIM_SECONDS
    assert song.outcome() == plain.outcome()
    assert song.again == 0, "a process that is asked to stop stores every token first"
