"""Trainings of a tiny model that varies recordings: codec, codes, transformers; stopped and resumed, fine-tuned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jukebox_core import load_model
from jukebox_core.base.structuring import build
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.datasets.config import CheckConfig
from jukebox_core.datasets.songs import scan_songs
from jukebox_core.datasets.windows import CodesIndex, EncodedSong, write_index
from jukebox_core.errors import ConfigError
from jukebox_core.families.vampnet.checkpoints.loading import load_codec
from jukebox_core.families.vampnet.config import CodebooksConfig, TransformerConfig, VampNetNetwork
from jukebox_core.families.vampnet.model.positions import buckets
from jukebox_core.families.vampnet.training.config import TrainingConfig
from jukebox_core.models.presets import load_preset, option_data, option_path
from jukebox_core.tokens.codes import Codes, write_codes
from jukebox_core.training.family import SongLength
from jukebox_core.training.log import METRICS_NAME, read_entries
from pipelines.settings.compose import FINETUNE, TRAIN, compose
from stages import stopping
from stages.handles import FileHandle
from stages.stopping import StoppedError
from stages.training.album import write_album
from stages.training.dataset import check_training_songs
from stages.training.model_folder import ModelPlan, write_model
from stages.training.readiness import check_training
from stages.training.train import PartPlan, Trained, train_part

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.models.presets import ModelSettings

RATE, HOP = 8000, 16
WRONG = {"encoder_dim": 4, "encoder_rates": [4, 2], "decoder_dim": 16, "decoder_rates": [4, 4]}
ALBUM = AlbumConfig(songs=3, seconds=4.0, sample_rate=RATE, artists=("organ",))
ABOUT = {"model": "tiny", "codec_sha256": "0" * 64, "sample_rate": RATE, "hops": [HOP, HOP]}


def network() -> VampNetNetwork:
    sizes = {"n_heads": 2, "n_layers": 1, "latent_dim": 4, "embedding_dim": 16, "vocab_size": 16}
    codec = CodebooksConfig(sample_rate=RATE, hop=HOP, n_codebooks=3, codebook_size=16, codebook_dim=(4,))
    coarse = TransformerConfig(n_codebooks=2, **sizes)  # type: ignore[arg-type]
    c2f = TransformerConfig(n_codebooks=3, n_conditioning_codebooks=2, **sizes)  # type: ignore[arg-type]
    return VampNetNetwork(codec=codec, coarse=coarse, c2f=c2f, coarse_seconds=0.1, c2f_seconds=0.05)


@pytest.fixture
def model() -> ModelSettings:
    """A preset of tiny sizes."""
    vampnet = load_preset("vampnet")
    return replace(vampnet, name="tiny", network=network(), files=replace(vampnet.files, terms=None))


def training(steps: int = 3, **changes: Any) -> TrainingConfig:
    data: dict[str, Any] = option_data(option_path("mini_vamp", "training"), "training")
    every = {"max_steps": steps, "logging_steps": 1, "save_steps": 1000, "eval_steps": 1000, "eval_batches": 1}
    for part in ("codec", "coarse", "c2f"):
        data[part]["loop"] |= {**every, "batch_size": 2}
        data[part]["schedule"] |= {"warmup_steps": 1}
        data[part]["seconds"] = 0.1
        data[part] |= changes.get(part, {})
    data["codec"] |= {"fitted_seconds": 1.0}
    data["codec"]["networks"] = {
        "encoder_dim": 4,
        "encoder_rates": [4, 4],
        "decoder_dim": 16,
        "decoder_rates": [4, 4],
    }
    data["codec"]["loss"]["resolutions"] = {"windows": [128, 32], "mels": [6, 3]}
    return build(TrainingConfig, data)


def plan(model: ModelSettings, folder: Path, role: str, **options: Any) -> PartPlan:
    given: dict[str, Any] = {
        "audio": None,
        "recordings": None,
        "start": None,
        "codec": None,
        "training": training(),
        "codes": str(folder / "codes"),
        "validation": 0.3,
    }
    return PartPlan(
        family=model.family,
        role=role,
        config=model.config,
        metadata=None,
        vocabularies={},
        start_config=model.config,
        folder=str(folder),
        **given | options,
    )


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder of composed songs, as the inputs of the codec's training."""
    root = tmp_path_factory.mktemp("music")
    folder, record = write_album(replace(ALBUM, folder=str(root / "songs"))), root / "recordings.json"
    check_training_songs(CheckConfig(shortest_seconds=1.0), scan_songs(folder), RATE, record)
    return {"audio": str(folder), "recordings": str(record)}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, music: dict[str, str]) -> tuple[Path, FileHandle]:
    """A folder of codes, grids of a pattern with noise, and the trained codec that they stand for."""
    folder = tmp_path_factory.mktemp("learned")
    vampnet = load_preset("vampnet")
    tiny = replace(vampnet, name="tiny", network=network())
    trained = train_part(plan(tiny, folder, "codec", training=training(1), **music))
    rng, songs = np.random.default_rng(0), []
    for number in range(4):
        grid = (np.arange(150) // 5 % 16 + 3 * np.arange(3)[:, None]).astype(np.int32) % 16
        grid = np.where(rng.random(grid.shape) < 0.2, rng.integers(16, size=grid.shape), grid).astype(np.int32)
        write_codes(folder / f"codes/{number}.npz", Codes({0: grid, 1: grid[:2].copy()}, ABOUT))
        song = EncodedSong(
            name=f"{number}.wav", codes=f"{number}.npz", samples=150 * HOP, artist="", genre="", lyrics=""
        )
        songs.append(song)
    write_index(folder / "codes", CodesIndex(ABOUT, songs))
    return folder / "codes", trained.weights


def log_of(folder: Path, role: str) -> Path:
    return folder / "training" / role / "log" / METRICS_NAME


def losses(folder: Path, role: str) -> list[float]:
    entries = read_entries(log_of(folder, role))
    return [entry["loss"] for entry in entries if entry["part"] == "train"]


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return load_file(trained.weights.read())


@pytest.mark.parametrize(("role", "adversarial"), [("codec", 0.0), ("codec", 1.0), ("coarse", 0.0), ("c2f", 0.0)])
def test_a_stopped_training_goes_on_bit_for_bit(
    model: ModelSettings,
    music: dict[str, str],
    learned: tuple[Path, FileHandle],
    role: str,
    adversarial: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs: dict[str, Any] = dict(music) if role == "codec" else {"codes": str(learned[0]), "codec": learned[1]}
    how = training()
    inputs["training"] = replace(how, codec=replace(how.codec, loss=replace(how.codec.loss, adversarial=adversarial)))
    whole = train_part(plan(model, tmp_path / "whole", role, **inputs))
    asked = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "stop_requested", lambda: next(asked))
        patch.setattr(stopping, "check", lambda stored: (_ for _ in ()).throw(StoppedError(stored)))
        with pytest.raises(StoppedError):
            train_part(plan(model, tmp_path / "parts", role, **inputs))
    assert len(losses(tmp_path / "parts", role)) == 2
    continued = train_part(plan(model, tmp_path / "parts", role, **inputs))
    assert losses(tmp_path / "parts", role) == losses(tmp_path / "whole", role)
    [logged] = [entry for entry in read_entries(log_of(tmp_path / "whole", role)) if entry["part"] == "train"][-1:]
    assert ("fooled" in logged) == (adversarial > 0)
    ours, theirs = weights(continued), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_trained_model_is_a_folder_that_varies_music(
    model: ModelSettings, learned: tuple[Path, FileHandle], tmp_path: Path
) -> None:
    inputs = {"codes": str(learned[0]), "codec": learned[1]}
    trained = {role: train_part(plan(model, tmp_path, role, **inputs)) for role in ("coarse", "c2f")}
    (tmp_path / "codec.safetensors").write_bytes(learned[1].read().read_bytes())
    handle = FileHandle.of(tmp_path / "codec.safetensors", learned[1].sha256)
    trained["codec"] = Trained("codec", handle, 1, {"si_sdr": 12.0})
    finished = ModelPlan(
        base=model,
        start_config=model.config,
        trained=trained,
        given={},
        vocabularies={},
        codes="",
        data="tests",
        licence="none",
        tuned_from=None,
    )
    folder = write_model(tmp_path, finished).parent
    card = (folder / "README.md").read_text()
    assert "| codec | 1 | SI-SDR in dB 12.000 |" in card
    assert "| coarse | 3 | bits a masked token" in card
    made = load_model(folder / "model.yaml")
    codes = made.encode(0.1 * np.random.default_rng(0).standard_normal(RATE // 4).astype(np.float32), rate=RATE)
    assert codes.shape == (3, 125)


def test_a_fine_tune_trains_low_rank_updates_alone_and_starts_from_the_model(
    model: ModelSettings, learned: tuple[Path, FileHandle], tmp_path: Path
) -> None:
    inputs = {"codes": str(learned[0]), "codec": learned[1]}
    first = train_part(plan(model, tmp_path / "first", "coarse", **inputs))
    how = training(2, coarse={"lora_rank": 2})
    second = train_part(plan(model, tmp_path / "second", "coarse", start=first.weights, training=how, **inputs))
    base, tuned = weights(first), weights(second)
    assert {name for name in tuned if name not in base} == {name for name in tuned if ".lora_" in name}
    assert len([name for name in tuned if name.endswith(".lora_A")]) == 5
    assert all(torch.equal(tuned[name], base[name]) for name in base)
    assert any(tuned[name].any() for name in tuned if name.endswith(".lora_B"))
    model.opened.check_file(model.config, "coarse", second.weights.read())


def test_the_codec_learns_from_trained_weights_with_the_sizes_of_their_file(
    model: ModelSettings, music: dict[str, str], learned: tuple[Path, FileHandle], tmp_path: Path
) -> None:
    again = train_part(plan(model, tmp_path, "codec", start=learned[1], training=training(1), **music))
    assert load_codec(again.weights.read()).config == load_codec(learned[1].read()).config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": WRONG}, "whose product is 8; the model's codec has 16"),
        ({"seconds": 0.005}, "a window of 128 needs more than 64"),
        ({"fitted_seconds": 0.01}, "which is 5 tokens; 16 entries are fitted"),
    ],
    ids=str,
)
def test_a_codec_that_does_not_fit_is_refused_before_the_training(
    model: ModelSettings, changes: dict[str, Any], message: str
) -> None:
    how = training()
    networks = {"networks": build(type(how.codec.networks), changes["networks"])} if "networks" in changes else changes
    wrong = replace(how, codec=replace(how.codec, **networks))
    with pytest.raises(ConfigError, match=message):
        check_training(model, ("codec",), wrong, {}, [SongLength("a", 4.0), SongLength("b", 4.0)], 0.0)


def test_memory_and_lengths_are_checked_for_every_part(model: ModelSettings) -> None:
    check_training(model, ("codec", "coarse", "c2f"), training(), {}, [SongLength("a.wav", 4.0)], 0.0)
    assert type(buckets(50)) is torch.Tensor, "nothing of the estimate, which has no values, is left"
    with pytest.raises(ConfigError, match=r"coarse: none of 1 songs to learn from is as long as an excerpt of 0.10 s"):
        check_training(model, ("coarse",), training(), {}, [SongLength("a.wav", 0.05)], 0.0)


def test_settings_of_a_fine_tune() -> None:
    how = ["model=vampnet", "training=vampnet_finetune", "parts=[coarse,c2f]", "data.audio=a"]
    settings = compose(FINETUNE, how)
    assert settings.given == ("codec", "coarse", "c2f")
    assert settings.training.coarse.lora_rank == 8
    with pytest.raises(ConfigError, match="the model is trained with codec, coarse, c2f, devices"):
        compose(TRAIN, ["model=vampnet", "data.audio=a"])
    with pytest.raises(ConfigError, match="models of the family vampnet know no artists"):
        compose(FINETUNE, [*how, "+labels.artists={a: null}"])
