from __future__ import annotations

from dataclasses import replace

import pytest

from jukebox_core.errors import ConfigError
from jukebox_core.models.presets import load_preset


def test_a_model_is_sampled_at_its_own_temperatures() -> None:
    mini = load_preset("mini")
    made = replace(mini, usual_temperatures={"level_0": 0.3, "level_2": 0.8}).usual_sampling
    plain = mini.opened.sampling_type()
    assert [made.level(level).temperature for level in range(3)] == [0.3, plain.level_1.temperature, 0.8]
    assert made.level_2.hop_fraction == plain.level_2.hop_fraction
    assert replace(mini, usual_temperatures={}).usual_sampling == plain


def test_a_family_without_levels_keeps_its_own_settings() -> None:
    vamp = load_preset("mini_vamp")
    assert vamp.usual_sampling == vamp.opened.sampling_type()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf")])
def test_a_temperature_is_positive(temperature: float) -> None:
    with pytest.raises(ConfigError, match=rf"usual_temperatures.level_1 is {temperature}; it must be above 0"):
        replace(load_preset("mini"), usual_temperatures={"level_1": temperature})
