"""Smaller precisions of transformers: near to float32, the same in every batch, smaller, and refused in parity."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from jukebox_core.errors import ConfigError, DeviceError
from jukebox_core.families.vampnet import engine
from jukebox_core.families.vampnet.config import TransformerConfig
from jukebox_core.families.vampnet.engine import check_parity, converted
from jukebox_core.families.vampnet.model.transformer import VampTransformer
from jukebox_core.families.vampnet.sampling.config import PassConfig, VampSampling
from jukebox_core.families.vampnet.sampling.grid_model import ChunkState
from jukebox_core.runtime.native.matrices import PackedProjection
from jukebox_core.runtime.quantise import Int8Projection
from tests.helpers.models.tiny_vampnet import Session, piece, tiny

ERRORS = {"bfloat16": 0.02, "int8": 0.04}  # root mean square, relative to that of the logits


def logits_of(model: VampTransformer, codes: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        made: torch.Tensor = model(codes)
    return made


@pytest.fixture
def model() -> VampTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = VampTransformer(TransformerConfig(n_heads=4, n_layers=3, n_codebooks=4, embedding_dim=64, vocab_size=50))
        made.codebooks_KVD = torch.randn(4, 50, 8)
    return made.eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", ERRORS)
def test_logits_are_near_those_of_float32(
    dtype: str, kernels: bool, model: VampTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise DeviceError("no compiler")

    if not kernels:
        monkeypatch.setattr(engine, "library", absent)
    codes = torch.randint(51, (2, 4, 30), generator=torch.Generator().manual_seed(1))
    exact = logits_of(model, codes)
    made = converted(copy.deepcopy(model), dtype)
    kind = made.layers[0].attention.w_qs  # type: ignore[union-attr]
    assert isinstance(kind, PackedProjection) is kernels
    assert kernels or isinstance(kind, Int8Projection) is (dtype == "int8")
    found = logits_of(made, codes)
    assert found.dtype is torch.float32
    error = (found - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 0 < error < ERRORS[dtype]


@pytest.mark.parametrize("dtype", ERRORS)
def test_an_item_is_near_the_same_in_every_batch(dtype: str, model: VampTransformer) -> None:
    codes = torch.randint(51, (3, 4, 30), generator=torch.Generator().manual_seed(2))
    made = converted(model, dtype)
    alone = torch.cat([logits_of(made, codes[item : item + 1]) for item in range(3)])
    assert torch.allclose(alone, logits_of(made, codes), atol=1e-5)


def test_float32_is_the_model_itself(model: VampTransformer) -> None:
    assert converted(model, "float32") is model
    assert not any(isinstance(each, PackedProjection) for each in model.modules())


def test_parity_is_upstreams_precision() -> None:
    check_parity("int8", parity=False)
    check_parity("float32", parity=True)
    with pytest.raises(ConfigError, match=r"not in int8: set hardware\.dtype=float32"):
        check_parity("int8", parity=True)


def test_chunks_of_which_all_is_kept_need_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 steps 30 are generated: the model sees the chunks around them alone, and the rest is the source's."""
    calls, advance, steps = [], ChunkState._advance, 300
    monkeypatch.setattr(ChunkState, "_advance", lambda self, group: (calls.append(len(group)), advance(self, group)))
    session = Session.of(piece(steps))
    mask = np.zeros((5, steps), np.bool_)
    mask[:, 150:180] = True
    sampling = VampSampling(seed=1, coarse=PassConfig(steps=4), c2f=PassConfig(steps=2))
    [made] = session.sample(session.plans(mask, sampling), sampling, 1)
    assert np.array_equal(made[~mask], session.codes[~mask])
    assert made[mask].max() < 12
    chunks = len(session.plans(mask, sampling)[0].nodes)
    assert 0 < len(calls) < 4 * chunks / 2
    assert tiny().coarse.config.mask_id not in made
