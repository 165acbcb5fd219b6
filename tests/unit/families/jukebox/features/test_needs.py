"""Features compute only what they need: no logits, no caches, full batches, and the fastest products of the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import jukebox_core as jukebox
from jukebox_core.families.jukebox.engines.native import NativeTransformer
from jukebox_core.families.jukebox.family import JukeboxFamily
from jukebox_core.families.jukebox.features.activations import layer_outputs
from jukebox_core.families.jukebox.features.extractor import PriorExtractor, window_engine
from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.model.transformer import Block, Transformer
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_weights
from jukebox_core.runtime.config import HardwareConfig
from tests.helpers.models.own_model import write_own_model
from tests.helpers.models.tiny_priors import CONFIGS, tiny_codes, tiny_condition, tiny_prior

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def own_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("own"), scale=8.0)


def opened(own_yaml: Path, dtype: str, **hardware: str) -> Prior:
    """The first two layers of the top prior of the own model."""
    model = load_preset(own_yaml)
    file = obtain_weights(model, WeightsConfig(folder=str(own_yaml.parent / "weights")))["level_2"]
    chosen = HardwareConfig(device="cpu", dtype=dtype, **hardware)  # type: ignore[arg-type]
    return JukeboxFamily().open_features(model.config, 2, file.path, file.identity, chosen, None, deepest=2).prior


def sounds(count: int) -> list[np.ndarray]:
    noise = np.random.default_rng(0)
    return [0.1 * noise.standard_normal(32 * 128).astype(np.float32) for _ in range(count)]  # a window each


def test_no_cache_is_made_and_no_logits_are_computed(own_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a cache was made, or logits were computed")

    for owner, name in ((Transformer, "new_cache"), (NativeTransformer, "new_cache"), (Prior, "forward")):
        monkeypatch.setattr(owner, name, refuse)
    hardware = HardwareConfig(device="cpu", dtype="float32")
    model = jukebox.load_model(own_yaml, hardware=hardware, folder=own_yaml.parent / "weights")
    assert model.features(sounds(1)[0], layers=(1, 2), final=True)["final"].shape == (32,)
    assert not hasattr(opened(own_yaml, "float32"), "output")


def test_windows_of_several_recordings_share_a_forward_pass(own_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    plain = PriorExtractor.activations

    def counting(self: PriorExtractor, codes: np.ndarray, *rest: Any, **named: Any) -> Iterator[Any]:
        batches.append(len(codes))
        yield from plain(self, codes, *rest, **named)

    monkeypatch.setattr(PriorExtractor, "activations", counting)
    hardware = HardwareConfig(device="cpu", dtype="float32", batch_size=3)
    model = jukebox.load_model(own_yaml, hardware=hardware, folder=own_yaml.parent / "weights")
    model.features(sounds(7), layers=(1,))
    assert batches == [3, 3, 1]


@pytest.mark.parametrize("kind", ["lyrics", "one_sequence"])
def test_blocks_above_the_deepest_layer_are_not_computed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prior, computed = tiny_prior(kind), list[Block]()
    add = Block.add

    def counting(self: Block, x_BTW: torch.Tensor, update_BTW: torch.Tensor) -> torch.Tensor:
        computed.append(self)
        return add(self, x_BTW, update_BTW)

    monkeypatch.setattr(Block, "add", counting)
    codes_BT = tiny_codes(prior)
    (found,) = layer_outputs(prior, codes_BT, tiny_condition(prior), [2])
    own = [block for block in computed if block in set(prior.body.transformer.typed_blocks)]
    assert own == [*prior.body.transformer.typed_blocks[:2]], "each block once: lyrics and music together"
    assert found.x_BTW.shape[:2] == codes_BT.shape, "lyric positions are not left out"


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_block_in_parts_is_the_block(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prior = tiny_prior(kind)
    codes_BT, condition = tiny_codes(prior), tiny_condition(prior)
    (whole,) = layer_outputs(prior, codes_BT, condition, [2])
    monkeypatch.setattr("jukebox_core.families.jukebox.features.activations._POSITIONS", 5)
    (parts,) = layer_outputs(prior, codes_BT, condition, [2])
    torch.testing.assert_close(parts.x_BTW, whole.x_BTW, atol=1e-5, rtol=1e-5)


def test_the_engine_of_a_cpu_is_the_one_with_the_faster_products(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(dtype: str, engine: str = "auto", device: str = "cpu") -> str:
        hardware = HardwareConfig(dtype=dtype, engine=engine)  # type: ignore[arg-type]
        return window_engine(hardware, torch.device(device))

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert {chosen(dtype) for dtype in ("float32", "bfloat16", "int8")} == {"auto"}
    assert chosen("bfloat16", device="cuda") == "eager"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert [chosen(dtype) for dtype in ("float32", "bfloat16", "int8")] == ["eager", "eager", "auto"]
    assert chosen("float32", "native") == "native"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_only_weights_are_rounded_on_a_cpu(own_yaml: Path, dtype: str) -> None:
    prior = opened(own_yaml, dtype, engine="native")
    assert isinstance(prior.body.transformer, NativeTransformer)
    assert prior.compute_dtype is torch.float32
    condition = prior.condition(torch.tensor([[44100, 0, 4096, 1, 2, -1, -1, -1, -1]]))
    (found,) = layer_outputs(prior, torch.arange(20)[None], condition, [2])
    assert found.x_BTW.dtype is torch.float32
    rounded = found.x_BTW.bfloat16().float()
    assert not torch.equal(rounded, found.x_BTW)
