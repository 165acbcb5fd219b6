from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.training.config import NewNames
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from stages.fetch import fetch_vocabularies, fetch_weights
from stages.training.model_folder import ModelPlan, check_model_folder, write_model
from stages.training.new_labels import add_labels
from stages.training.train import Trained
from tests.helpers.models.own_model import write_own_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folder of a model with a new artist; only its VQ-VAE counts as trained."""
    model, cache, folder = load_preset(write_own_model(tmp_path)), tmp_path / "cache", tmp_path / "made"
    folder.mkdir()
    settings = WeightsConfig(folder=str(cache))
    labelled = add_labels(model, fetch_vocabularies(model, settings), NewNames(artists={"My Band": None}), folder)
    weights = fetch_weights(model, settings)
    codec = weights.pop("vqvae")
    (folder / "vqvae.safetensors").write_bytes(codec.read().read_bytes())
    trained = {"vqvae": Trained("vqvae", codec, 7, {"recons_loss": 0.5})}
    plan = ModelPlan(
        base=replace(model, name="wider", network=labelled.network),
        start_config=model.config,
        trained=trained,
        given=weights,
        vocabularies=labelled.vocabularies,
        codes=str(tmp_path / "codes"),
        data="nothing",
        licence="none",
        tuned_from="own",
    )
    assert write_model(folder, plan) == folder / "model.yaml"
    return folder


def test_priors_that_were_not_trained_receive_rows_for_new_names(made: Path) -> None:
    model = load_preset(made)
    assert [prior.labels.artists for prior in model.config.priors] == [4, 4, 4]
    for role, spec in model.files.weights.items():
        assert (made / spec.path).stat().st_size == spec.bytes
        model.opened.check_file(model.config, role, made / spec.path)
    purposes = {role: spec.purpose for role, spec in model.files.weights.items()}
    assert purposes["vqvae"] == "wider: trained here"
    assert purposes["level_0"] == purposes["level_2"] == "wider: with rows for new names"
    assert "my_band;3" in (made / "artists_v2.txt").read_text().splitlines()


def test_the_card_names_steps_metrics_and_unchanged_parts(made: Path) -> None:
    card = (made / "README.md").read_text()
    assert "| vqvae | 7 | reconstruction loss 0.500 |" in card
    assert "| level_1 |  | unchanged |" in card
    assert "- Licence: none\n- Tuned from: own\n" in card


def test_a_model_is_written_into_a_folder_of_its_own(tmp_path: Path) -> None:
    check_model_folder(tmp_path / "new", ["vqvae"])
    for name in ("README.md", "model.yaml", "vqvae.safetensors"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("my own")
        with pytest.raises(ConfigError, match=f"has a {name} that no training in it wrote; nothing is overwritten"):
            check_model_folder(folder, ["vqvae"])
        (folder / "training").mkdir()
        check_model_folder(folder, ["vqvae"])


def test_a_model_has_no_credentials_of_the_sources_of_its_base(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    model, settings = load_preset(write_own_model(tmp_path)), WeightsConfig(folder=str(tmp_path / "cache"))
    weights, vocabularies = fetch_weights(model, settings), fetch_vocabularies(model, settings)
    (folder / "vqvae.safetensors").write_bytes(weights["vqvae"].read().read_bytes())
    trained = {"vqvae": Trained("vqvae", weights.pop("vqvae"), 7, {})}
    files = replace(model.files, weight_sources=("https://me:hunter2@host/models?sig=hunter2",))
    plan = ModelPlan(
        base=replace(model, files=files), start_config=model.config, trained=trained, given=weights,
        vocabularies=vocabularies, codes=str(tmp_path / "codes"), data="nothing", licence="none", tuned_from=None,
    )  # fmt: skip
    text = write_model(folder, plan).read_text()
    assert "hunter2" not in text
    assert "https://host/models" in text
