"""Features of a folder from workers of Dask and Ray: the arrays are those of the flow's own thread, and resumed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jukebox_core as jukebox
from jukebox_core.audio.files import write_audio
from tests.helpers.models.own_model import write_own_model

if TYPE_CHECKING:
    from jukebox_core.features.folder import FeatureSet

BIN, RATE, CLIPS = Path(sys.executable).parent, 44100, 5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.endurance,
    pytest.mark.skipif(not (BIN / "jukebox").is_file(), reason="not installed"),
]


def features(folder: Path, prefect: str, name: str, *overrides: str) -> FeatureSet:
    """The features of the clips in `folder`, taken by the command."""
    command = [
        str(BIN / "jukebox"), "features", f"model={folder / 'own.yaml'}", f"audio=[{folder}/clips]", "group=2",
        "features.layers=[1,3]", f"folder={folder / name}", "hardware.device=cpu", "hardware.threads=1", *overrides,
    ]  # fmt: skip
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "JUKEBOX_"))}
    own = {"HOME": str(folder), "JUKEBOX_WEIGHTS": str(folder / "weights"), "PREFECT_API_URL": prefect}
    done = subprocess.run(
        command, cwd=folder, env=kept | own | {"NO_PROXY": "127.0.0.1"}, capture_output=True, text=True, check=False,
        timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return jukebox.load_features(folder / name)


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_clusters_give_what_one_thread_gives(tmp_path: Path, prefect_api: str, kind: str) -> None:
    pytest.importorskip(f"prefect_{kind}")
    write_own_model(tmp_path, scale=8.0)
    noise = np.random.default_rng(4)
    for number in range(CLIPS):
        write_audio(tmp_path / f"clips/{number}.wav", 0.1 * noise.standard_normal(6000).astype(np.float32), RATE)
    (tmp_path / "clips/bad.wav").write_text("no audio")
    alone = features(tmp_path, prefect_api, "alone")
    many = features(tmp_path, prefect_api, "many", f"runner={kind}", "runner.workers=2")
    assert alone.names == many.names
    assert len(many) == CLIPS
    for layer in (1, 3):
        np.testing.assert_allclose(alone[layer], many[layer], atol=1e-6)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "many/arrays").rglob("*.npy")}
    features(tmp_path, prefect_api, "many", f"runner={kind}", "runner.workers=2")
    assert {path: path.stat().st_mtime_ns for path in before} == before
