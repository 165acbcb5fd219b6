"""Processes killed at random moments, on disk and on S3: few tokens are lost, results are equal, no run hangs."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
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

LENGTH = "seconds=0.1"
SEEDS = 4  # songs that are compared
WITH_REPORT = (0, 1)  # those of them with pictures, which take half of a song's time
RECLAIM_SECONDS = 5.0  # between SIGTERM and the end of a machine that is reclaimed
MOMENTS = (  # of the kills of one song, in order: the stage that has ended, and at most so many seconds after that
    ("", 0.05),
    ("", 1.0),
    ("tokens", 40),  # or tokens that were drawn
    ("tokens", 200),
    ("", 1.0),
    ("tokens", 200),
    ("tokens", 400),
    ("sample", 0.1),
    ("", 1.0),
    ("sample", 0.5),
    ("decode", 0.05),
    ("codes", 0.2),
    ("", 1.0),
    ("codes", 1.5),
    ("draw", 0.05),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("model"), width=64)


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


@pytest.mark.parametrize(
    ("place", "count"),
    [
        ("disk", 100),
        pytest.param("s3", 16, marks=pytest.mark.endurance),
        pytest.param("disk", 1000, marks=(pytest.mark.endurance, pytest.mark.timeout(7200))),
    ],
)
def test_runs_killed_at_any_moment_are_resumed(
    place: str,
    count: int,
    model: Path,
    fork_server: ForkServer,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kills from the first moment of a process to the last picture: no run is lost, no bit differs."""
    chance = random.Random(20261120)
    environment = {} if place == "disk" else request.getfixturevalue("bucket")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    root = str(tmp_path / "store") if place == "disk" else "s3://songs"

    def song(kind: str, number: int) -> Song:
        folder, store = tmp_path / f"{kind}{number}", f"{root}/{kind}{number}"
        seed = number % SEEDS
        return Song(fork_server, model, folder, store, seed, (LENGTH,), environment, report=seed in WITH_REPORT)

    plain: dict[int, Song] = {}
    songs: list[Song] = []
    hits: Counter[str] = Counter()
    different, slowest = 0, 0.0
    while hits.total() < count:
        killed = song("killed", len(songs))
        songs.append(killed)
        if killed.seed not in plain:
            plain[killed.seed] = song("plain", killed.seed)
            plain[killed.seed].finish()
        for stage, most in MOMENTS:
            if hits.total() < count and killed.start_and_kill(stage, chance.uniform(0.0, most)):
                hits[phase(killed.stages(), stage)] += 1
        began = time.monotonic()
        killed.finish()
        slowest = max(slowest, time.monotonic() - began)
        check_whole(killed, plain[killed.seed])
        different += killed.outcome() != plain[killed.seed].outcome()
        shutil.rmtree(killed.folder)
    lost, worst = sum(song.redrawn for song in songs), max(song.most_redrawn for song in songs)
    figures = (
        f"{place}: {hits.total()} kills ({', '.join(f'{n} {stage}' for stage, n in hits.most_common())}) over "
        f"{len(songs)} songs; lost runs 0; tokens lost {lost} ({lost / hits.total() / SAMPLES:.1f} a kill and sample, "
        f"{worst} at most, of {FLUSH} allowed); results that differ {different}; damaged files used 0; hung runs 0; "
        f"slowest last resume {slowest:.1f} s"
    )
    record_property("figures", figures)
    print(figures)
    assert different == 0
    assert worst <= FLUSH


def phase(ended: list[str] | None, stage: str) -> str:
    """Where a process was killed that had ended these stages."""
    if stage == "tokens":
        return "while sampling"
    return "before its run" if ended is None else f"after {ended[-1]}" if ended else "at the start of its run"


def check_whole(killed: Song, plain: Song) -> None:
    """Every token was drawn, every window can be read, and kills have left nothing."""
    assert set(killed.draws()) == set(plain.draws())
    store = TokenStore(killed.store)
    sealed = store.keys()
    assert sealed
    assert store.partials() == []
    for key in sealed:
        store.read(key)  # raises if a sealed window is damaged
    assert not [*killed.run.rglob(".*.tmp")]


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
        assert "stored: the same command continues from the stored tokens" in song.log
        stops, slowest = stops + 1, max(slowest, time.monotonic() - asked)
    song.finish()
    record_property(
        "figures", f"{number.name}: {stops} times, stored and stopped in {slowest:.2f} s; tokens lost {song.redrawn}"
    )
    assert slowest < RECLAIM_SECONDS
    assert song.outcome() == plain.outcome()
    assert song.redrawn == 0, "a process that is stopped stores every token first"
