"""A features run over 200 recordings is killed again and again: what was finished is never computed a second time."""

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

import jukebox_core as jukebox
from jukebox_core.audio.files import write_audio
from jukebox_core.features.folder import FeatureFolder
from tests.helpers.models.own_model import write_own_model
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

CLIPS, KILLS, RATE = 200, 4, 44100
PROGRAM = """
import sys
from pipelines.execution import features
from pipelines.flows.features import extract_recordings
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.settings.compose import FEATURES, compose
extract_recordings(features.prepare(compose(FEATURES, sys.argv[1:])), PLAIN)
"""


def finished(folder: Path) -> dict[str, int]:
    """The time at which each finished array was written."""
    known = FeatureFolder(folder)
    entries = [entry for entry in known.entries().values() if known.is_finished(entry)]
    files = [folder / array.file for entry in entries for array in entry.arrays.values()]
    return {file.name: file.stat().st_mtime_ns for file in files}


def test_kills_lose_nothing_that_was_finished(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    noise, chance = np.random.default_rng(2), random.Random(3)
    for number in range(CLIPS):
        write_audio(tmp_path / f"clips/{number:03}.wav", 0.1 * noise.standard_normal(9000).astype(np.float32), RATE)
    folder = tmp_path / "out"
    command = [
        sys.executable, "-c", PROGRAM, f"model={write_own_model(tmp_path / 'model')}", f"audio=[{tmp_path}/clips]",
        f"folder={folder}", f"weights.folder={tmp_path}/weights", "hardware.device=cpu", "hardware.threads=1",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before: dict[str, int] = {}
    for kill in range(KILLS):
        goal = len(before) + chance.randint(5, CLIPS // (KILLS + 2))
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(finished(folder)) < goal:
            time.sleep(0.01)  # between two looks: the kill comes at any moment of the next recording
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, f"run {kill} ended before it was killed"
        now = finished(folder)
        assert now.items() >= before.items(), "a finished recording was computed again"
        before = now
    assert len(before) < CLIPS
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = finished(folder)
    assert after.items() >= before.items()
    assert len(after) == len(jukebox.load_features(folder)) == CLIPS
    jukebox.load_features(folder).verify()
    record_property("figures", f"{CLIPS} recordings, {KILLS} kills, the last after {len(before)}: none computed twice")
