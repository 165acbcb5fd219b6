"""Processes killed at random moments, over disk and over S3: nothing is lost, nothing differs, nothing hangs."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mortal_run import FLUSH
from own_model import write_own_model

from jukebox_core.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.endurance, pytest.mark.timeout(1500)]

SCRIPT = Path(__file__).with_name("mortal_run.py")
SAMPLES = 2
PATIENCE = 240.0  # seconds without an end, after which a run counts as hung
KILLS = {"disk": 44, "s3": 20}
KILLS_A_SONG = 11


class Song:
    """One song, made by as many processes as it takes."""

    def __init__(self, model: Path, folder: Path, store: str, seed: int) -> None:
        self.folder, self.store, self.drawn = folder, store, folder / "drawn"
        self.command = [sys.executable, str(SCRIPT), str(model), str(folder), store, str(seed), str(self.drawn)]
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log)

    def finish(self) -> None:
        process = self.start()
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, (self.folder / "log").read_text()[-2000:]

    def kill(self, after: float) -> bool:
        """Kills the song's process a while after it began to sample; returns whether it was still going on."""
        process = self.start()
        assert process.stdout is not None
        assert process.stdout.readline() == b"READY\n", (self.folder / "log").read_text()[-2000:]
        time.sleep(after)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        return alive

    def outcome(self) -> dict[str, bytes]:
        """All that a listener gets: audio and codes, by name."""
        run = self.folder / "run"
        return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.glob("audio/**/*.wav"))}

    def draws(self) -> Counter[str]:
        return Counter(self.drawn.read_text().splitlines())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("model"), width=128)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    values = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="songs")
    yield "s3://songs"
    server.stop()


@pytest.mark.parametrize("place", KILLS)
def test_killed_at_random_moments(
    place: str, model: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(20261120)
    root = str(tmp_path / "store") if place == "disk" else request.getfixturevalue("bucket")
    kills = lost = different = songs = 0
    slowest = 0.0
    while kills < KILLS[place]:
        plain = Song(model, tmp_path / f"plain{songs}", f"{root}/plain{songs}", seed=songs)
        plain.finish()
        killed = Song(model, tmp_path / f"killed{songs}", f"{root}/killed{songs}", seed=songs)
        here = 0
        for _ in range(KILLS_A_SONG):
            here += killed.kill(chance.uniform(0.0, 1.2))
        began = time.monotonic()
        killed.finish()
        slowest = max(slowest, time.monotonic() - began)
        different += killed.outcome() != plain.outcome()
        assert set(killed.draws()) == set(plain.draws())
        again = sum(count - 1 for count in killed.draws().values())
        assert again <= here * FLUSH * SAMPLES
        lost += again
        kills, songs = kills + here, songs + 1
        store = TokenStore(killed.store)
        sealed = store.keys()
        assert sealed
        for key in sealed:
            store.read(key)  # raises if a sealed window is damaged
    with capsys.disabled():
        print(
            f"\n{place}: {kills} kills over {songs} songs; tokens drawn again {lost} "
            f"({lost / kills / SAMPLES:.1f} a kill and song, at most {FLUSH}); results that differ {different}; "
            f"hung runs 0; slowest last resume {slowest:.1f} s"
        )
    assert different == 0
    assert kills >= KILLS[place]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop(number: signal.Signals, model: Path, tmp_path: Path) -> None:
    plain = Song(model, tmp_path / "plain", str(tmp_path / "store1"), seed=1)
    plain.finish()
    song = Song(model, tmp_path / "stopped", str(tmp_path / "store2"), seed=1)
    process = song.start()
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1.0)
    process.send_signal(number)
    asked = time.monotonic()
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    if number == signal.SIGTERM:
        assert time.monotonic() - asked < 5.0  # what a machine that is reclaimed is given
    song.finish()
    assert song.outcome() == plain.outcome()
    assert max(song.draws().values()) == 1, "a process that is asked to stop stores every token first"
    assert song.drawn.stat().st_size == plain.drawn.stat().st_size
