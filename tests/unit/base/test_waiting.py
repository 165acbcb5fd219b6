"""Threads of OpenMP that wait give their core up soon, unless the user has said otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASK = "import os, jukebox_core; jukebox_core.HardwareConfig; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=["nothing said", "a count of the user's", "a policy of the user's"],
)
def test_the_environment_says_how_threads_wait_before_torch_is_imported(given: dict[str, str], found: str) -> None:
    done = subprocess.run([sys.executable, "-c", ASK], env=given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found
