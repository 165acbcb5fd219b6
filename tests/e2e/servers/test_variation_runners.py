"""Threads, Dask and Ray make the same variations of several recordings, one of which is many chunks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.helpers.models import vampnet as gold

BIN = Path(sys.executable).parent
RATE = 44_100

pytestmark = [
    pytest.mark.slow,
    pytest.mark.endurance,
    pytest.mark.skipif(not (BIN / "jukebox").is_file(), reason="not installed"),
]


def varied(root: Path, name: str, prefect: str, *overrides: str) -> dict[str, bytes]:
    """The codes that a command made."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "JUKEBOX_"))}
    own = {"HOME": str(root), "PREFECT_API_URL": prefect, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    fixed = (
        f"model={root}/golden.yaml", f"audio=[{root}/music]", f"storage.root={root}/{name}", "run.name=made",
        f"weights.folder={root}/weights", "hardware.device=cpu", "output.report=false", "sampling.n_samples=2",
        "sampling.overlap=0.0", "sampling.coarse.steps=2", "runner.preview_seconds=null",
    )  # fmt: skip
    done = subprocess.run(
        [BIN / "jukebox", "vamp", *fixed, *overrides],
        cwd=root, env=kept | own, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 * 2 * 2, "a file for each variation and level"
    return {path.name: path.read_bytes() for path in (root / name / "made/codes").iterdir()}


@pytest.fixture(scope="module")
def root(golden_vampnet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("variations")
    gold.write_preset(golden_vampnet, made)
    (made / "music").mkdir()
    for number, seconds in enumerate((0.3, 2.0)):
        sound = 0.2 * np.random.default_rng(number).standard_normal(int(seconds * RATE))
        soundfile.write(made / f"music/{number}.wav", sound, RATE)
    return made


@pytest.fixture(scope="module")
def alone(root: Path, prefect_api: str) -> dict[str, bytes]:
    """The codes that one worker made."""
    return varied(root, "alone", prefect_api)


@pytest.mark.parametrize("kind", ["threads", "dask", "ray"])
def test_workers_change_no_token(root: Path, alone: dict[str, bytes], prefect_api: str, kind: str) -> None:
    assert len(alone) == 4
    assert varied(root, kind, prefect_api, f"runner={kind}", "runner.workers=2") == alone
