"""Threads, Dask and Ray transcribe a folder to the same files, and share the blocks of a long recording."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jukebox_core.audio.files import write_audio
from tests.helpers.models.mt3 import write_tiny_preset

BIN = Path(sys.executable).parent
RATE = 16_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.endurance,
    pytest.mark.skipif(not (BIN / "jukebox").is_file(), reason="not installed"),
]


def transcribed(root: Path, name: str, prefect: str, *overrides: str) -> dict[str, bytes]:
    """The files that a command wrote, its log left out."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "JUKEBOX_"))}
    own = {"HOME": str(root), "PREFECT_API_URL": prefect, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    fixed = (f"model={root}/tiny.yaml", f"audio=[{root}/music]", f"storage.root={root}/{name}", "csv=true")
    done = subprocess.run(
        [BIN / "jukebox", "transcribe", *fixed, f"weights.folder={root}/weights", "hardware.device=cpu", *overrides],
        cwd=root, env=kept | own, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5
    folder = root / name / "transcripts"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".log"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a folder of recordings, one of which is long enough to be divided."""
    made = tmp_path_factory.mktemp("transcription")
    write_tiny_preset(made)
    (made / "music").mkdir()
    for number, seconds in enumerate((0.3, 0.6, 40.0, 0.2, 1.0)):
        samples = np.random.default_rng(number).standard_normal(int(seconds * RATE)) * np.linspace(
            0.02, 0.3, int(seconds * RATE)
        )
        write_audio(made / f"music/{number}.wav", samples, RATE)
    return made


@pytest.fixture(scope="module")
def alone(root: Path, prefect_api: str) -> dict[str, bytes]:
    """The files that one worker wrote."""
    return transcribed(root, "alone", prefect_api)


@pytest.mark.parametrize("kind", ["threads", "dask", "ray"])
def test_workers_change_no_file(root: Path, alone: dict[str, bytes], prefect_api: str, kind: str) -> None:
    assert len(alone) == 15
    assert transcribed(root, kind, prefect_api, f"runner={kind}", "runner.workers=2") == alone
