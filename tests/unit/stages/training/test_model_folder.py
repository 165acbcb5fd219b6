from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jukebox_core.families.jukebox.training.config import NewNames
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from stages.fetch import fetch_vocabularies, fetch_weights
from stages.training.model_folder import ModelPlan, write_model
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
    assert "- Licence: none" in card
