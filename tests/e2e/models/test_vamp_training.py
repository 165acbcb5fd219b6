"""Commands of models that vary recordings: `train recipe=mini_vamp`, `finetune` of what it made, `vamp` with both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from safetensors.torch import load_file

from jukebox_core.models.presets import load_preset

pytestmark = [pytest.mark.slow, pytest.mark.endurance, pytest.mark.timeout(3600)]
JUKEBOX = Path(sys.executable).with_name("jukebox")
PARTS = ("coarse", "c2f")


def done(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [str(JUKEBOX), *arguments, f"storage.root={folder}/outputs"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]


def few(steps: int) -> list[str]:
    """Settings of a training of so many steps of each transformer."""
    loop = [f"loop.{name}" for name in (f"max_steps={steps}", "batch_size=2", "eval_batches=1", "save_steps=2")]
    parts = [f"training.{part}.{each}" for part in PARTS for each in (*loop, "seconds=1.0")]
    return [*parts, "training.devices.accelerator=cpu", "data.checks.shortest_seconds=2", "data.validation=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that the recipe made of four songs, and a fine-tune of it."""
    made = tmp_path_factory.mktemp("training")
    done(
        made, "train", "recipe=mini_vamp", "album.songs=4", "album.seconds=8", "name=short",
        f"folder={made}/short", "training.codec.fitted_seconds=12", *few(3),
    )  # fmt: skip
    done(
        made, "finetune", f"model={made}/short", "training=vampnet_finetune", "parts=[coarse,c2f]",
        f"data.audio={made}/short/audio", "name=tuned", f"folder={made}/tuned", *few(2),
    )  # fmt: skip
    return made


def test_the_recipe_makes_a_whole_model(folder: Path) -> None:
    model = load_preset(folder / "short")
    shipped = load_preset("mini_vamp")
    assert model.network == shipped.network
    for spec in model.files.weights.values():
        assert (folder / "short" / spec.path).stat().st_size == spec.bytes
    card = (folder / "short/README.md").read_text()
    assert "| coarse | 3 |" in card
    assert "| c2f | 3 |" in card


def test_a_fine_tune_holds_updates_of_the_model_that_it_continues(folder: Path) -> None:
    for part in PARTS:
        base, tuned = (load_file(folder / name / f"{part}.safetensors") for name in ("short", "tuned"))
        updates = {name for name in tuned if ".lora_" in name}
        assert updates
        assert set(tuned) == set(base) | updates
        assert all(tuned[name].equal(base[name]) for name in base)
        assert any(tuned[name].any() for name in updates if name.endswith(".lora_B"))


@pytest.mark.parametrize("name", ["short", "tuned"])
def test_both_vary_a_recording(folder: Path, name: str) -> None:
    song = min((folder / "short/audio").glob("*.wav"))
    done(
        folder, "vamp", f"model={folder}/{name}", f"audio=[{song}]", "seconds=1", f"run.name={name}",
        "hardware.device=cpu", "output.report=false", "runner.preview_seconds=null",
    )  # fmt: skip
    heard, rate = soundfile.read(folder / f"outputs/{name}/audio/level_0/sample_0.wav")
    assert abs(len(heard) / rate - 1) < 0.1
    assert abs(heard).max() > 0.01
