"""`jukebox vamp` with input at the edges and with wrong input: a right result, or one line and no run."""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
import torch
import yaml

from jukebox_core.families.vampnet.model.codec import Codec
from jukebox_core.families.vampnet.model.transformer import VampTransformer
from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.tokens.codes import read_codes
from pipelines import commands, exit_status
from pipelines.cli import main as cli
from tests.helpers.models.tiny_vampnet import COARSE, CODEC, write_preset

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RATE = 8000
CHEAP = (
    "hardware.device=cpu", "hardware.threads=1", "runner.preview_seconds=null", "output.report=false", "run.name=run",
    "sampling.coarse.steps=2",
)  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, recordings, and files of weights that are of other models."""
    folder = tmp_path_factory.mktemp("input")
    write_preset(folder)
    chance = np.random.default_rng(0)
    for name, sound in (
        ("song", 0.2 * chance.standard_normal(RATE)),
        ("short", 0.2 * chance.standard_normal(RATE // 100)),
        ("shorter", 0.2 * chance.standard_normal(RATE // 200)),
        ("silence", np.zeros(RATE)),
    ):
        soundfile.write(folder / f"{name}.wav", sound, RATE, subtype="FLOAT")
    np.save(folder / "books.npy", np.ones((4, 100)))
    wide = VampTransformer(COARSE, rank=2).state_dict()
    wide = {
        name: torch.zeros(tensor.shape[0], 20) if "w_qs.lora_A" in name else tensor for name, tensor in wide.items()
    }
    save_safetensors(wide, folder / "wide.safetensors", {"kwargs": asdict(COARSE)})
    save_safetensors(Codec(CODEC).state_dict(), folder / "other.safetensors", {"kwargs": asdict(CODEC)})
    return folder


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "make", functools.partial(commands.make, how="plain"))


def vamp(place: Path, root: Path, *overrides: str, model: str = "tiny.yaml", audio: str = "song") -> int:
    given = (f"model={place / model}", f"audio=[{place}/{audio}.wav]", f"storage.root={root}")
    return cli.main(["vamp", *given, f"weights.folder={root}/weights", *CHEAP, *overrides])


def with_file(place: Path, role: str, name: str) -> str:
    """Writes a preset of which one file is another."""
    data = yaml.safe_load((place / "tiny.yaml").read_text())
    data["files"]["weights"][role]["path"] = name
    path = place / f"{role}_{name}.yaml"
    path.write_text(yaml.safe_dump(data))
    return path.name


def codes(root: Path) -> NDArray[np.int32]:
    found: NDArray[np.int32] = read_codes(root / "run/codes/sample_0.npz").levels[0]
    return found


@pytest.mark.parametrize(
    ("audio", "overrides", "steps"),
    [
        ("short", [], 1),
        ("silence", ["mask=none"], 100),
        ("song", ["mask=none"], 100),  # all masked
        ("song", ["mask.period=0"], 100),
        ("song", ["mask.stretch=2", "hardware.dtype=int8"], 200),
    ],
    ids=str,
)
def test_input_at_the_edges_is_varied(
    place: Path, tmp_path: Path, audio: str, overrides: list[str], steps: int
) -> None:
    assert vamp(place, tmp_path, *overrides, audio=audio) == 0
    assert codes(tmp_path).shape == (5, steps)
    assert codes(tmp_path).max() < CODEC.codebook_size
    heard, _ = soundfile.read(tmp_path / "run/audio/level_0/sample_0.wav")
    assert len(heard) == steps * RATE // 100
    assert np.isfinite(heard).all()


def test_of_all_kept_the_codes_are_the_recordings(place: Path, tmp_path: Path) -> None:
    assert vamp(place, tmp_path / "one", "mask=none", "mask.random=0") == 0
    assert vamp(place, tmp_path / "two", "mask=none", "mask.random=0", "sampling.seed=9") == 0
    assert np.array_equal(codes(tmp_path / "one"), codes(tmp_path / "two"))


@pytest.mark.parametrize(
    ("audio", "overrides", "words"),
    [
        ("shorter", [], "gives 5.0 ms; a recording to be varied lasts at least 10 ms"),
        ("absent", [], "absent.wav"),
        ("song", ["mask=drawn", "mask.file=PLACE/books.npy"], "has 4 rows, but the model 5 codebooks"),
        ("song", ["mask.keep_codebooks=6"], "mask.keep_codebooks is 6, but tiny has 5 codebooks"),
        ("song", ["mask.period=-1"], "period is -1; it cannot be negative"),
        ("song", ["mask.beats.times=[0.5,1.5]"], "has a beat at 1.5 s, but the recording ends at 1.000 s"),
        ("song", ["sampling.parity=true", "hardware.dtype=int8"], "set hardware.dtype=float32"),
    ],
    ids=str,
)
def test_wrong_input_is_one_line(
    place: Path, tmp_path: Path, audio: str, overrides: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [each.replace("PLACE", str(place)) for each in overrides]
    assert vamp(place, tmp_path, *given, audio=audio) == exit_status.REFUSED
    refused(tmp_path, words, capsys)


@pytest.mark.parametrize(
    ("role", "name", "words"),
    [("coarse", "wide.safetensors", "lora_A"), ("codec", "other.safetensors", "has other sizes than the model")],
)
def test_weights_of_another_model_are_one_line(
    place: Path, tmp_path: Path, role: str, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vamp(place, tmp_path, model=with_file(place, role, name)) == exit_status.FAILED
    refused(tmp_path, words, capsys)


def refused(root: Path, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Checks that an error is one line with these words, and that no codes were made."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert words in lines[-1], lines
    assert not any("Traceback" in line for line in lines)
    assert not [*root.rglob("codes/*.npz")]
