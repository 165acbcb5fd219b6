"""The original's small models, cut down to seconds: from a folder of music to sound, by commands of the command line.

Their two levels, hops, kinds of attention and of lyrics are the original's; widths, depths and contexts are not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from jukebox_core.models.presets import load_preset
from jukebox_core.tokens.codes import read_codes
from jukebox_core.training.log import METRICS_NAME, read_entries

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.models.presets import ModelSettings

pytestmark = pytest.mark.slow

STEPS, SAMPLES, SECONDS, RATE = 3, 2, 2, 22050
PARTS = ("vqvae", "level_1", "level_0")
TOP_TOKENS = SECONDS * RATE // 256
CUT_DOWN = (
    "model.network.vqvae.width=4",
    "model.network.vqvae.depth=1",
    "model.network.vqvae.bins=32",
    "model.network.priors.level_0.context=256",
    "model.network.priors.level_0.transformer.width=32",
    "model.network.priors.level_0.transformer.depth=3",
    "model.network.priors.level_0.upsample.width=8",
    "model.network.priors.level_0.upsample.depth=2",
    "model.network.priors.level_1.context=128",
    "model.network.priors.level_1.transformer.width=32",
    "training.vqvae.seconds=0.5",
    "training.devices.accelerator=cpu",
)
LABELLED = (
    "model.network.priors.level_1.timing.min_seconds=2",  # songs of 8 s
    "+labels.artists={organ: null, string quartet: null, synthesizer: null}",  # of the three songs that are composed
    "+labels.genres={blues: null, waltz: null, chorale: null}",
)
LYRICS = (*LABELLED, "model.network.priors.level_1.lyrics.tokens=64", "training.level_1.guided_attention_weight=0.1")
KINDS = {  # depth: enough layers for one that attends to lyrics
    "small_prior": ("model.network.priors.level_1.transformer.depth=3",),
    "small_labelled_prior": ("model.network.priors.level_1.transformer.depth=3", *LABELLED),
    "small_single_enc_dec_prior": ("model.network.priors.level_1.transformer.depth=16", *LYRICS),
    "small_sep_enc_dec_prior": (
        "model.network.priors.level_1.transformer.depth=10",
        "model.network.priors.level_1.lyrics.encoder.width=16",
        "model.network.priors.level_1.lyrics.encoder.depth=2",
        *LYRICS,
    ),
}

IN_ONE = "import sys\nfrom pipelines.cli.main import main\n" + (
    "for command in {commands!r}:\n    assert not main(command), command"
)


def typed(folder: Path, prefect: str, *commands: list[str]) -> list[str]:
    """Returns the printed lines of commands that run in one process, because imports take longer than the commands."""
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE.format(commands=commands)],
        cwd=folder,
        env={**os.environ, "PREFECT_API_URL": prefect, "JUKEBOX_WEIGHTS": str(folder / "weights")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def conditioning(kind: str) -> list[str]:
    """All conditioning that the model has."""
    labels = ["song.artist=organ", "song.genre=waltz", "song.total_seconds=8"] if LABELLED[0] in KINDS[kind] else []
    return [*labels, "song.lyrics=over the water"] if LYRICS[-1] in KINDS[kind] else labels


@pytest.mark.parametrize(  # the last has all that the others have
    "kind", [*(pytest.param(kind, marks=pytest.mark.endurance) for kind in [*KINDS][:-1]), [*KINDS][-1]]
)
def test_music_becomes_a_model_and_the_model_makes_sound(kind: str, tmp_path: Path, prefect_api: str) -> None:
    loop = {"max_steps": STEPS, "batch_size": 2, "num_workers": 0, "logging_steps": 1, "eval_batches": 1}
    few = [f"training.{part}.loop.{name}={value}" for part in PARTS for name, value in loop.items()]
    data = ["data.audio=songs", "data.validation=0", "data.checks.shortest_seconds=2", "folder=made"]
    song = [f"seconds={SECONDS}", f"sampling.n_samples={SAMPLES}", "run.name=song", *conditioning(kind)]
    _, made, *sounds = typed(
        tmp_path,
        prefect_api,
        ["compose", "songs=3", "seconds=8", "seed=1", "folder=songs"],
        ["train", "recipe=small", f"model={kind}", *CUT_DOWN, *KINDS[kind], *few, *data],
        ["generate", "model=./made", "hardware=cpu", *song],
    )
    assert made == "made"
    check_model(tmp_path / made, load_preset(tmp_path / made), kind)
    assert sounds == [
        f"outputs/song/audio/level_{level}/sample_{sample}.wav" for sample in range(SAMPLES) for level in (0, 1)
    ]
    for path in sounds:
        sound, rate = soundfile.read(tmp_path / path)
        assert (rate, sound.shape) == (RATE, (TOP_TOKENS * 256,))
        assert np.isfinite(sound).all()
        assert sound.any()
    for sample in range(SAMPLES):
        codes = read_codes(tmp_path / f"outputs/song/codes/sample_{sample}.npz")
        assert {level: len(tokens) for level, tokens in codes.levels.items()} == {0: TOP_TOKENS * 8, 1: TOP_TOKENS}
        assert all(0 <= tokens.min() <= tokens.max() < 32 for tokens in codes.levels.values())


def check_model(folder: Path, model: ModelSettings, kind: str) -> None:
    """Every part took its steps, with finite losses, and its files are complete."""
    assert (model.name, model.trained, model.network.vqvae.hops, model.config.top) == (kind, True, (32, 256), 1)
    assert set(model.files.weights) == set(PARTS)
    for spec in (*model.files.weights.values(), *model.files.vocabularies.values()):
        assert (folder / spec.path).stat().st_size == spec.bytes
    for part in PARTS:
        entries = read_entries(folder / "training" / part / "log" / METRICS_NAME)
        taken = [entry for entry in entries if entry["part"] == "train"]
        assert [entry["step"] for entry in taken] == list(range(1, STEPS + 1))
        assert all(np.isfinite(entry["loss"]) for entry in taken)
        guided = part == "level_1" and "training.level_1.guided_attention_weight=0.1" in KINDS[kind]
        assert all(("guide_bits" in entry) == guided for entry in taken)
    lyrics = model.network.priors[1].lyrics
    assert (lyrics is not None) == ("enc_dec" in kind)
    if lyrics is not None:
        assert lyrics.alignment_layer is None, "no head follows the lyrics after so few steps"
