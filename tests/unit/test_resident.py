"""How many priors a process keeps in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from own_model import write_own_model

from jukebox_core.families.jukebox.presets import load_preset
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.weights.config import WeightsConfig
from stages import resident
from stages.fetch import fetch_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jukebox_core.families.jukebox.prior import Prior

CPU = HardwareConfig(device="cpu", dtype="float32")


@pytest.fixture
def prior(tmp_path: Path) -> Iterator[Callable[[int], Prior]]:
    model = load_preset(write_own_model(tmp_path / "model"))
    weights = fetch_weights(model.config, model.files, WeightsConfig(folder=str(tmp_path / "weights")))
    resident.release()
    yield lambda level: resident.resident_prior(model.config, level, weights[f"level_{level}"], CPU)
    resident.keep_priors(1)
    resident.release()


def test_one_prior_at_a_time(prior: Callable[[int], Prior]) -> None:
    top = prior(2)
    assert prior(2) is top
    prior(1)
    assert prior(2) is not top


def test_all_priors_at_once(prior: Callable[[int], Prior]) -> None:
    resident.keep_priors(3)
    held = [prior(level) for level in range(3)]
    assert [prior(level) for level in range(3)] == held


def test_the_prior_used_least_recently_makes_room(prior: Callable[[int], Prior]) -> None:
    resident.keep_priors(2)
    top, middle = prior(2), prior(1)
    assert prior(2) is top
    prior(0)
    assert prior(2) is top
    assert prior(1) is not middle
