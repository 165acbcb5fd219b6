"""How many priors a process keeps in memory."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from jukebox_core.families.jukebox.checkpoints import prepared
from jukebox_core.families.jukebox.checkpoints.prepared import sampling_prior
from jukebox_core.families.jukebox.model.transformer import Transformer
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.config import HardwareConfig
from stages import resident
from stages.fetch import fetch_weights
from stages.sampling.sample import sample_shard
from tests.helpers.models.own_model import write_own_model
from tests.helpers.models.shards import shards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch

    from jukebox_core.families.jukebox.model.cache import TransformerCache
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.protocols import TokenModel

CPU = HardwareConfig(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], TokenModel]:
    folder = tmp_path_factory.mktemp("own")
    model = load_preset(write_own_model(folder / "model"))
    weights = fetch_weights(model, WeightsConfig(folder=str(folder / "weights")))

    def network(level: int) -> TokenModel:
        role = f"level_{level}"
        spec = resident.NetworkSpec(family="jukebox", config=model.config, role=role, weights=weights, hardware=CPU)
        return spec.open()

    return network


@pytest.fixture
def prior(load: Callable[[int], Prior]) -> Iterator[Callable[[int], Prior]]:
    resident.release()
    yield load
    resident.keep_networks(1)
    resident.release()


def test_one_prior_at_a_time(prior: Callable[[int], Prior]) -> None:
    top = prior(2)
    assert prior(2) is top
    prior(1)
    assert prior(2) is not top


def test_all_priors_at_once(prior: Callable[[int], Prior]) -> None:
    resident.keep_networks(3)
    held = [prior(level) for level in range(3)]
    assert [prior(level) for level in range(3)] == held


def test_the_prior_used_least_recently_makes_room(prior: Callable[[int], Prior]) -> None:
    resident.keep_networks(2)
    top, middle = prior(2), prior(1)
    assert prior(2) is top
    prior(0)
    assert prior(2) is top
    assert prior(1) is not middle


@pytest.mark.parametrize("engine", ["native", "eager"])
def test_by_level_a_level_s_weights_and_caches_are_gone_before_the_next_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Literal["native", "eager"]
) -> None:
    """Every tensor that a prior sampled with, and every cache, is dead when the next prior is asked for."""
    model = load_preset(write_own_model(tmp_path / "model"))
    weights = fetch_weights(model, WeightsConfig(folder=str(tmp_path / "weights")))
    alive: list[list[weakref.ref[torch.Tensor]]] = []
    before_loading: list[list[int]] = []

    def noting(*arguments: Any, **named: Any) -> Prior:
        before_loading.append([sum(each() is not None for each in of_level) for of_level in alive])
        loaded = sampling_prior(*arguments, **named)
        alive.append([weakref.ref(tensor) for tensor in loaded.state_dict(keep_vars=True).values()])
        return loaded

    def caching(transformer: Transformer, *arguments: Any, **named: Any) -> TransformerCache:
        cache = new_cache(transformer, *arguments, **named)
        alive[-1] += [weakref.ref(layer.kv) for layer in cache.layers]
        return cache

    new_cache = Transformer.new_cache
    monkeypatch.setattr(prepared, "sampling_prior", noting)
    monkeypatch.setattr(Transformer, "new_cache", caching)
    resident.release()
    job, units = shards(model, weights, str(tmp_path / "store"), replace(CPU, engine=engine), tokens=34)
    for nodes in units:
        sample_shard(job, nodes)
    assert [len(each) > 30 for each in alive] == [True] * 3
    assert before_loading == [[], [0], [0, 0]]
    resident.release()
