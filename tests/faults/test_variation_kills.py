"""Variations are killed at any pass, on disk and on S3: their tokens are those of no kill, and one pass is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from jukebox_core.tokens.codes import read_codes
from tests.helpers.models.tiny_vampnet import write_preset
from tests.helpers.paths import ROOT
from tests.helpers.processes.killable_variation import BATCH, sampled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow


class Killed:
    """Processes that make one thing and are killed at random passes, until it is made or enough were killed."""

    def __init__(self, module: str, log: Path, *arguments: str) -> None:
        self.kills, self._log, self._command = 0, log, [sys.executable, "-m", module, *arguments]

    def make(self, chance: random.Random, most: int, passes: int) -> None:
        """Kills at most `most` processes, each in one of its first `passes` passes."""
        with subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            status = int(signal.SIGKILL)
            while status == signal.SIGKILL:
                killed = chance.randint(1, passes) if self.kills < most else 0
                server.stdin.write(f"{killed} {chance.choice(['drawn', 'stored'])}\n")
                server.stdin.flush()
                status = int(server.stdout.readline())
                self.kills += status == signal.SIGKILL
            server.stdin.close()
        assert status == 0

    def lost(self) -> int:
        """The passes of an item that were sampled twice: at most the last one of each process."""
        drawn = Counter(self._log.read_text().split("\n")[:-1])
        twice = drawn.total() - len(drawn)
        assert twice <= self.kills * BATCH, "more than the last pass was sampled twice"
        assert max(drawn.values()) <= 1 + self.kills
        return twice


@pytest.mark.parametrize(("place", "least"), [("disk", 100), pytest.param("s3", 12, marks=pytest.mark.endurance)])
def test_any_pass(
    place: str,
    least: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    if place == "s3":
        request.getfixturevalue("s3_configured")
    root, chance = str(tmp_path / "store") if place == "disk" else f"s3://store/{os.urandom(8).hex()}", random.Random(9)
    kills, songs, lost = 0, 0, 0
    expected = sampled(f"{root}/plain")
    while kills < least:
        songs += 1
        uri, log = f"{root}/killed{songs}", tmp_path / f"passes{songs}"
        killed = Killed("tests.helpers.processes.killable_variation", log, uri, str(log))
        killed.make(chance, least - kills, passes=4)
        assert all(map(np.array_equal, sampled(uri), expected))
        kills, lost = kills + killed.kills, lost + killed.lost()
    record_property("figures", f"{place}: {kills} kills, {songs} songs, {lost} passes of an item sampled twice")
    print(f"{place}: {kills} kills, {songs} songs, {lost} passes of an item sampled twice")
    assert lost > 0, "no kill hit a pass that was not stored"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("place", "least"),
    [
        pytest.param("disk", 100, marks=pytest.mark.endurance),
        pytest.param("s3", 12, marks=pytest.mark.endurance),
    ],
)
def test_the_command_at_any_pass(
    place: str,
    least: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    if place == "s3":
        request.getfixturevalue("s3_configured")
    at = np.arange(12_000) / 8000
    soundfile.write(tmp_path / "song.wav", 0.3 * np.sin(2 * np.pi * 440 * at) * np.exp(-3 * (at % 0.4)), 8000)
    preset, chance = write_preset(tmp_path), random.Random(11)

    def command(name: str, log: Path) -> Killed:
        tokens = [f"storage.tokens=s3://store/{tmp_path.name}{name}"] if place == "s3" else []
        return Killed(
            "tests.helpers.processes.killable_vamp", log, str(log), f"model={preset}", f"audio=[{tmp_path}/song.wav]",
            f"storage.root={tmp_path}/{name}", "run.name=run", f"weights.folder={tmp_path}/weights",
            f"sampling.n_samples={BATCH}", "sampling.seed=5", "sampling.coarse.steps=6", "hardware.device=cpu",
            "hardware.threads=1", "runner.preview_seconds=null", "output.report=false", *tokens,
        )  # fmt: skip

    def made(name: str) -> list[np.ndarray]:
        files = [tmp_path / name / f"run/codes/sample_{number}.npz" for number in range(BATCH)]
        return [codes for file in files for codes in read_codes(file).levels.values()]

    command("plain", tmp_path / "plain.log").make(chance, 0, passes=1)
    kills, songs, lost = 0, 0, 0
    while kills < least:
        songs += 1
        killed = command(f"killed{songs}", tmp_path / f"passes{songs}")
        killed.make(chance, least - kills, passes=3)
        assert all(map(np.array_equal, made(f"killed{songs}"), made("plain")))
        kills, lost = kills + killed.kills, lost + killed.lost()
    figures = f"command, {place}: {kills} kills, {songs} songs, {lost} passes of an item sampled twice"
    record_property("figures", figures)
    print(figures)
    assert lost > 0, "no kill hit a pass that was not stored"
