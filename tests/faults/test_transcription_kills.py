"""Transcriptions are killed again and again, in a folder and within a long file: the notes are those of no kill."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.audio.files import write_audio
from jukebox_core.notes.notes import read_notes
from tests.helpers.models.mt3 import write_tiny_preset
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

RATE, KILLS = 16_000, 2
PROGRAM = """
import sys
from pipelines.execution.transcription import check
from pipelines.flows.transcribe import transcribe_files
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.settings.compose import TRANSCRIBE, compose
settings = compose(TRANSCRIBE, sys.argv[1:])
transcribe_files(settings, check(settings), PLAIN)
"""


def noise(path: Path, seconds: float, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).standard_normal(int(seconds * RATE)) * np.linspace(
        0.02, 0.3, int(seconds * RATE)
    )
    write_audio(path, samples.astype(np.float32), RATE)


def command(root: Path, name: str, audio: Path, *overrides: str) -> list[str]:
    return [
        sys.executable, "-c", PROGRAM, f"model={root}/tiny.yaml", f"audio=[{audio}]", f"folder={root / name}",
        f"storage.root={root}/{name}-root", f"weights.folder={root}/weights", "hardware.device=cpu",
        "hardware.threads=1", "csv=true", *overrides,
    ]  # fmt: skip


def killed(given: list[str], count: Callable[[], int], goal: int) -> None:
    """Runs a command until `count` has reached a goal, then kills it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(given, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and count() < goal:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"


def finished(given: list[str]) -> None:
    subprocess.run(given, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.endurance
def test_kills_in_a_folder_of_100_files(tmp_path: Path) -> None:
    write_tiny_preset(tmp_path)
    for number in range(100):
        noise(tmp_path / f"music/{number:03}.wav", 0.4, number)
    chance, folder, music = random.Random(4), tmp_path / "killed", tmp_path / "music"
    before: dict[str, int] = {}
    for _ in range(KILLS):
        killed(
            command(tmp_path, "killed", music),
            lambda: len(list(folder.glob("*.csv"))),
            len(before) + chance.randint(5, 25),
        )
        now = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}
        assert now.items() >= before.items(), "a finished recording was transcribed again"
        before = now
    assert 0 < len(before) < 100
    finished(command(tmp_path, "killed", music))
    finished(command(tmp_path, "whole", music))
    assert contents(folder) == contents(tmp_path / "whole")
    assert len(contents(folder)) == 300
    assert any(len(read_notes(path)) for path in folder.glob("*.json"))


@pytest.mark.endurance
@pytest.mark.parametrize("memory", [8, None], ids=["memory", "batches"])
def test_kills_within_one_long_file(tmp_path: Path, memory: int | None) -> None:
    write_tiny_preset(tmp_path, memory)
    noise(tmp_path / "long.wav", 50.0, 1)  # 196 segments in 25 blocks
    given, windows = (
        command(tmp_path, "killed", tmp_path / "long.wav", "lines=true"),
        tmp_path / "killed-root/.store/windows",
    )
    stored = 0
    for goal in (3, 15):

        def count() -> int:
            return len(list(windows.rglob("*.safetensors"))) if windows.exists() else 0

        killed(given, count, goal)
        assert count() >= stored
        stored = count()
        assert (tmp_path / "killed/long.jsonl").exists()
        assert not (tmp_path / "killed/long.json").exists()
    assert 15 <= stored < 25
    finished(given)
    finished(command(tmp_path, "whole", tmp_path / "long.wav", "lines=true"))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    heard = read_notes(tmp_path / "killed/long.json")
    # A tiny untrained model may write events that are no notes; files without any would be equal for no reason.
    assert len(heard) + heard.invalid_events + heard.dropped_events > 100
