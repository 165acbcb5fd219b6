"""Leavings of killed processes in runs and stores are found and removed; what a living process writes stays."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest
from jukebox_core.store.pins import Pins
from jukebox_core.store.store import TokenStore
from pipelines.runs.garbage import find_garbage, remove, sweep_leavings
from stages.sound.transcription_pins import pin_blocks
from tests.helpers.fake_runs import fake_run

if TYPE_CHECKING:
    import pytest


def test_half_written_files_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = fake_run("first", "seconds=1", "sampling=top_only", bottom=2)
    store = Path("outputs/.store")
    stranger = Path("outputs/mine/.notes.0a1b2c3d.tmp")  # in a folder that is no run
    left = [run.path / "audio" / ".sample_0.wav.0a1b2c3d.tmp", store / "tmp" / ".object.0a1b2c3d.tmp"]
    for path in (*left, stranger):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    with atomic_write(run.path / "living") as file:
        file.write(b"whole")
        assert sweep_leavings("outputs", remove=False) == (2, 8)
        assert all(path.exists() for path in left)
        assert sweep_leavings("outputs", remove=True) == (2, 8)
    assert not any(path.exists() for path in left)
    assert stranger.exists()
    assert (run.path / "living").read_bytes() == b"whole"


def test_blocks_of_unfinished_transcriptions_are_kept_and_those_of_others_removed(tmp_path: Path) -> None:
    store, folder = str(tmp_path / "store"), tmp_path / "transcripts"
    folder.mkdir()
    for name in ("going on", "finished", "gone", "unknown"):
        TokenStore(store).seal(digest(name), [1, 2, 3], first=0, causes={})
    pin_blocks(store, socket.gethostname(), folder / "going on.json", [digest("going on"), digest("not computed yet")])
    pin_blocks(store, socket.gethostname(), folder / "finished.json", [digest("finished")])
    pin_blocks(store, socket.gethostname(), tmp_path / "removed/gone.json", [digest("gone")])
    pin_blocks(store, "another machine", tmp_path / "removed/there.json", [digest("unknown")])
    (folder / "finished.json").write_text("{}")
    garbage = find_garbage(str(tmp_path), store, 0)
    assert set(garbage.windows) == {digest(name) for name in ("finished", "gone")}
    assert remove(garbage, str(tmp_path))[0] == 2
    assert set(TokenStore(store).keys()) == {digest("going on"), digest("unknown")}
    assert {pin.place.rpartition("/")[2] for pin in Pins(store).all()} == {"going on.json", "there.json"}
