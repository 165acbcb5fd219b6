"""Trainings of a tiny model that transcribes: from a folder with MIDI files, from songs composed meanwhile, resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from jukebox_core.base.structuring import build
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.datasets.config import CheckConfig
from jukebox_core.datasets.songs import scan_songs
from jukebox_core.errors import ConfigError
from jukebox_core.families.mt3.training.config import TrainingConfig
from jukebox_core.models.presets import load_preset, option_data, option_path
from jukebox_core.training.log import METRICS_NAME, read_entries
from pipelines.settings.compose import FINETUNE, TRAIN, compose
from stages import stopping
from stages.handles import FileHandle
from stages.stopping import StoppedError
from stages.training.album import write_album
from stages.training.dataset import check_training_songs
from stages.training.model_folder import ModelPlan, write_model
from stages.training.train import PartPlan, Trained, train_part

if TYPE_CHECKING:
    from jukebox_core.models.presets import ModelSettings

RATE = 8000
ALBUM = AlbumConfig(songs=3, seconds=4.0, sample_rate=RATE, midi=True, artists=("organ",))


@pytest.fixture
def model() -> ModelSettings:
    """mini_mt3 with tiny sizes."""
    mini = load_preset("mini_mt3")
    network: Any = mini.network
    front_end = replace(network.front_end, sample_rate=RATE, hop=200, fft=1024, mels=24, high_hz=3800.0)
    sizes = replace(network.transformer, width=16, heads=2, head_width=8, mlp_width=16, encoder_depth=1)
    return replace(mini, name="tiny", network=replace(network, front_end=front_end, transformer=sizes))


def training(steps: int, **loop: Any) -> TrainingConfig:
    data: dict[str, Any] = option_data(option_path("mini_mt3", "training"), "training")
    every = {"logging_steps": 1, "save_steps": 1000, "eval_steps": 1000, "eval_batches": 1, "batch_size": 2}
    data["transcriber"]["loop"] |= {"max_steps": steps, **every, **loop}
    return build(TrainingConfig, data)


def plan(model: ModelSettings, folder: Path, steps: int, **options: Any) -> PartPlan:
    given = {"audio": None, "recordings": None, "start": None, "training": training(steps), **options}
    return PartPlan(
        family=model.family,
        role="transcriber",
        config=model.config,
        validation=0.3,
        metadata=None,
        codes=str(folder / "codes"),
        vocabularies={},
        codec=None,
        start_config=model.config,
        folder=str(folder),
        **given,
    )


@pytest.fixture
def music(model: ModelSettings, tmp_path: Path) -> dict[str, str]:
    """A folder of composed songs with MIDI files, one of which is damaged, as the inputs of a training."""
    folder, record = write_album(replace(ALBUM, songs=4, folder=str(tmp_path / "songs"))), tmp_path / "recordings.json"
    next(folder.glob("00003*.mid")).write_bytes(b"no MIDI")
    check_training_songs(CheckConfig(shortest_seconds=1.0), scan_songs(folder), RATE, record, model)
    return {"audio": str(folder), "recordings": str(record)}


def losses(folder: Path) -> list[float]:
    entries = read_entries(folder / "training" / "transcriber" / "log" / METRICS_NAME)
    return [entry["loss"] for entry in entries if entry["part"] == "train"]


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return load_file(trained.weights.read())


def test_a_damaged_midi_file_is_left_out(music: dict[str, str]) -> None:
    usable = json.loads(Path(music["recordings"]).read_text(encoding="utf-8"))["usable"]
    assert sorted(name[:5] for name in usable) == ["00000", "00001", "00002"]


@pytest.mark.parametrize("source", ["folder", "composed"])
def test_a_stopped_training_goes_on_bit_for_bit(
    model: ModelSettings, music: dict[str, str], tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs: dict[str, Any] = music if source == "folder" else {"album": ALBUM}
    whole = train_part(plan(model, tmp_path / "whole", 4, **inputs))
    # Stopped after its second step, then continued.
    asked = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "stop_requested", lambda: next(asked))
        patch.setattr(stopping, "check", lambda stored: (_ for _ in ()).throw(StoppedError(stored)))
        with pytest.raises(StoppedError):
            train_part(plan(model, tmp_path / "parts", 4, **inputs))
    assert len(losses(tmp_path / "parts")) == 2
    continued = train_part(plan(model, tmp_path / "parts", 4, **inputs))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    ours, theirs = weights(continued), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    # A finished part is not trained again.
    assert train_part(plan(model, tmp_path / "whole", 4, **inputs)) == whole
    assert train_part(plan(model, tmp_path / "whole", 4, **inputs)).steps == 4


def test_a_trained_model_is_a_folder_that_transcribes(
    model: ModelSettings, music: dict[str, str], tmp_path: Path
) -> None:
    import numpy as np

    from jukebox_core import load_model

    trained = train_part(plan(model, tmp_path / "made", 2, **music))
    assert weights(trained)["encoder.frequencies"].dtype == torch.float32, "positions keep their precision"
    assert weights(trained)["project.weight"].dtype == torch.float16
    finished = ModelPlan(
        base=model,
        start_config=model.config,
        trained={"transcriber": trained},
        given={},
        vocabularies={},
        codes="",
        data="tests",
        licence="none",
        tuned_from=None,
    )
    folder = write_model(tmp_path / "made", finished).parent
    assert "| transcriber | 2 | nats per id" in (folder / "README.md").read_text()
    notes = load_model(folder / "model.yaml").transcribe(np.zeros(RATE, np.float32))
    assert notes.seconds == 1.0


def test_a_model_is_finetuned_from_its_weights(model: ModelSettings, music: dict[str, str], tmp_path: Path) -> None:
    first = train_part(plan(model, tmp_path / "first", 3, **music))
    start = FileHandle.of(first.weights.read(), first.weights.sha256)
    still = replace(
        training(1),
        transcriber=replace(training(1).transcriber, loop=replace(training(1).transcriber.loop, ema_decay=None)),
    )
    slow = replace(still.transcriber, optimiser=replace(still.transcriber.optimiser, learning_rate=1e-9))
    second = train_part(
        plan(model, tmp_path / "second", 1, start=start, **music | {"training": replace(still, transcriber=slow)})
    )
    ours, theirs = weights(second), weights(first)
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-6) for name in ours)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=mini_mt3"], "but the model is trained with transcriber, devices; choose a preset for models of its"),
        (["training=mini_mt3"], "training has transcriber, devices, but the model is trained with vqvae"),
        (["recipe=mini", "compose=while_training"], "compose is 'while_training', but mini learns from files"),
        (["recipe=mt3", "compose=while_training"], "compose is 'while_training', but album is null"),
        (["recipe=mt3", "+labels.artists={mine: null}"], "know no artists and genres"),
        (["recipe=mt3", "data.audio=null"], "data.audio is null; name the folder of music"),
        (["recipe=mt3", "training.transcriber.augment.noise_share=2"], "noise_share is 2.0; it is a share"),
        (["recipe=mt3", "parts=[vqvae]"], "parts names 'vqvae', but mini_mt3 consists of transcriber"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(TRAIN, ["data.audio=a", *overrides])
    assert message in str(caught.value)


def test_recipes_name_what_is_trained_and_from_what() -> None:
    settings = compose(TRAIN, ["recipe=mini_mt3"])
    assert settings.roles == ("transcriber",)
    assert settings.album is not None
    assert settings.album.midi
    assert settings.audio == settings.album.folder
    streamed = compose(TRAIN, ["recipe=mini_mt3", "compose=while_training"])
    assert streamed.audio is None
    assert streamed.streamed == streamed.album
    tuned = compose(FINETUNE, ["model=mini_mt3", "training=mt3_finetune", "parts=null", "data.audio=a"])
    assert (tuned.start, tuned.given) == ("model", ("transcriber",))
