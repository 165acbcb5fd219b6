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

from tests.helpers.paths import ROOT
from tests.helpers.processes.killable_variation import BATCH, sampled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow


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
        before = kills
        with subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.processes.killable_variation", uri, str(log)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as server:  # fmt: skip
            assert server.stdin is not None
            assert server.stdout is not None
            status = signal.SIGKILL
            while status == signal.SIGKILL:
                go_on = kills >= least
                server.stdin.write(f"{0 if go_on else chance.randint(1, 4)} {chance.choice(['drawn', 'stored'])}\n")
                server.stdin.flush()
                status = int(server.stdout.readline())
                kills += status == signal.SIGKILL
            server.stdin.close()
        assert status == 0
        assert all(map(np.array_equal, sampled(uri), expected))
        drawn = Counter(log.read_text().split("\n")[:-1])
        lost += drawn.total() - len(drawn)
        assert drawn.total() - len(drawn) <= (kills - before) * BATCH, "more than the last pass was sampled twice"
        assert max(drawn.values()) <= 1 + kills - before
    record_property("figures", f"{place}: {kills} kills, {songs} songs, {lost} passes of an item sampled twice")
    print(f"{place}: {kills} kills, {songs} songs, {lost} passes of an item sampled twice")
    assert lost > 0, "no kill hit a pass that was not stored"
