from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.labels import matching, names_of, with_models
from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def weights(tmp_path: Path) -> WeightsConfig:
    return WeightsConfig(folder=str(tmp_path), offline=True)


def test_names_of_a_model_are_sorted_by_kind(weights: WeightsConfig) -> None:
    found = names_of(load_preset("mini"), weights)
    assert found["artists"][:2] == ["brass band", "drums and bass"]
    assert "waltz" in found["genres"]
    assert "unknown" not in found["artists"]


@pytest.mark.parametrize("model", ["mini_mt3", "small_prior"])
def test_a_model_without_names_says_so(model: str, weights: WeightsConfig) -> None:
    with pytest.raises(ConfigError, match=f"model {model} knows no artists and genres; choose another"):
        names_of(load_preset(model), weights)


def test_a_word_selects_names_and_a_near_miss_is_named() -> None:
    names = ["the_beatles", "Beat Happening", "queen"]
    assert matching(names, "beat") == ["the_beatles", "Beat Happening"]
    assert matching(names, "the beatles") == ["the_beatles"]
    with pytest.raises(LabelError, match="no name contains 'quene'; closest: 'queen'"):
        matching(names, "quene")


def test_a_refused_name_names_the_models_that_know_it(weights: WeightsConfig) -> None:
    error = LabelError("artist 'music box' is not known", kind="artists", name="Music Box")
    assert str(with_models(error, "5b", weights)) == "artist 'music box' is not known; known to model=mini"
    assert with_models(error, "mini", weights) is error
    words = LabelError("no character of the lyrics is known")
    assert with_models(words, "5b", weights) is words
