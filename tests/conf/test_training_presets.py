"""The presets of training: files that hold only differences compose to the values written down in a fixture."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jukebox_core.base.paths import conf_dir
from jukebox_core.base.structuring import to_plain
from jukebox_core.families.jukebox.training.alignment_head import lyric_layers
from jukebox_core.models.presets import load_preset, option_data, option_names, option_path
from pipelines.settings.compose import TRAIN, compose
from tests.helpers.paths import ROOT, TESTS

MODELS = {"transcriber": "mini_mt3", "vqvae": "mini", "codec": "vampnet"}  # by a part of its training
EXPECTED: dict[str, Any] = json.loads((TESTS / "fixtures" / "training_presets.json").read_text())


def test_every_preset_is_written_down() -> None:
    assert option_names("training") == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_preset_composes_to_the_values_written_down(name: str) -> None:
    model = next(model for part, model in MODELS.items() if part in EXPECTED[name])
    settings = compose(TRAIN, [f"training={name}", f"model={model}", "data.audio=/music"])
    assert to_plain(settings.training) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_preset_is_the_same_to_hydra_and_to_the_core(name: str) -> None:
    assert option_data(option_path(name, "training"), "training") == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_preset_says_only_how_it_differs_from_the_base(name: str) -> None:
    lines = (conf_dir() / "training" / f"{name}.yaml").read_text().splitlines()
    assert len(lines) < 40


def test_the_recipe_of_the_wider_mini_composes() -> None:
    folder = ROOT / "docs" / "mini" / "next"
    settings = compose(TRAIN, ["recipe=mini", *(f"{group}={folder / group}.yaml" for group in ("model", "training"))])
    top = settings.model.config.priors[settings.model.config.top]
    assert settings.model.config.hops == (*load_preset("mini").config.hops[:2], 256)
    assert top.lyrics.alignment_layer in lyric_layers(top.transformer)
    assert top.transformer.depth > top.lyrics.alignment_layer + 1  # layers follow that use what it read
    assert settings.training.level_2.optimiser.muon_learning_rate == 0.012
