"""Stored files with flipped bits or truncated: each is detected, none is used, and the song is bit for bit the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.helpers.fault_songs import Song
from tests.helpers.fault_songs import fork_server as open_fork_server
from tests.helpers.models.own_model import write_own_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

DAMAGED = 200
ROUNDS = 5


def damage(path: Path, chance: random.Random) -> None:
    """Flips one bit of a file, or truncates it."""
    data = bytearray(path.read_bytes())
    if chance.random() < 0.5:
        bit = chance.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    else:
        del data[chance.randrange(len(data)) :]
    path.write_bytes(data)


@pytest.mark.endurance
def test_damaged_files_are_never_used(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Windows and audio of a finished song; then the unfinished windows of one that was stopped in the middle."""
    chance = random.Random(20261121)
    model = write_own_model(tmp_path / "model")
    with open_fork_server(tmp_path) as fork_server:
        song = Song(fork_server, model, tmp_path / "song", str(tmp_path / "song" / "store"))
        song.finish()
        first, windows, sounds = song.outcome(), 0, 0
        store = tmp_path / "song" / "store"
        for _ in range(ROUNDS):
            tokens = chance.sample([*store.glob("windows/*/*.safetensors")], DAMAGED // ROUNDS - 2)
            audio = chance.sample([*song.run.glob("audio/*/*.wav")], 2)  # a run with all its audio is not resumed
            for path in (*tokens, *audio):
                damage(path, chance)
            windows, sounds = windows + len(tokens), sounds + len(audio)
            song.finish()
            assert song.outcome() == first
        assert len([*store.glob("damaged/*")]) == windows
        record_property(
            "figures",
            f"{windows + sounds} bits flipped or files truncated ({windows} windows, {sounds} audio files): "
            f"detected {windows + sounds}, used 0, results that differ 0",
        )


def test_damaged_partial_windows_are_never_used(tmp_path: Path) -> None:
    chance = random.Random(7)
    model = write_own_model(tmp_path / "model", width=128)
    with open_fork_server(tmp_path) as fork_server:
        plain = Song(fork_server, model, tmp_path / "plain", str(tmp_path / "plain" / "store"))
        plain.finish()
        song = Song(fork_server, model, tmp_path / "song", str(tmp_path / "song" / "store"))
        hit: set[tuple[str, bytes]] = set()  # what the store sets aside is named by its content: two may be equal
        left: dict[Path, bytes] = {}  # content after the damage
        for draws in range(100, 1100, 100):
            song.start()
            song.wait_for(draws=draws)
            os.kill(song.process, signal.SIGKILL)
            song.wait()
            for path in (tmp_path / "song" / "store").glob("windows/*/*.part.safetensors"):
                if path.read_bytes() == left.get(path):
                    continue  # unchanged: no process read it before the kill
                damage(path, chance)
                left[path] = path.read_bytes()
                hit.add((path.name, left[path]))
            shutil.rmtree(song.folder / ".scratch", ignore_errors=True)
        song.finish()
        assert len(hit) > 5
        assert len([*(tmp_path / "song" / "store").glob("damaged/*.part.*")]) == len(hit)
        assert song.outcome() == plain.outcome()
