"""Sampling on another device than the host, as far as it can be tested without a GPU.

Tensors of the meta device have a shape but no numbers. An operation on them and on tensors of the host fails, as it
would on a GPU, and so does the host wherever it asks for a number: at every token, that would be a wait for the GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.families.jukebox.engines.engines import quantise_projections
from jukebox_core.families.jukebox.engines.static_steps import StaticTransformer
from jukebox_core.families.jukebox.model.conditioners import TimingEmbedding
from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder, draw_codes
from jukebox_core.models.checkpoints.shapes import Uninitialised
from jukebox_core.runtime.device import COMPUTE_DTYPES
from jukebox_core.sampling.draw import draw_tokens
from tests.helpers.models.tiny_priors import CONFIGS
from tests.helpers.models.tiny_priors import VQVAE as SIZES

if TYPE_CHECKING:
    from torch import Tensor

ELSEWHERE = torch.device("meta")
BATCH = 3


@pytest.fixture(autouse=True)
def labels_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a window, the host looks at the labels that it was given."""
    monkeypatch.setattr(Prior, "_check_labels", lambda *_: None)
    monkeypatch.setattr(TimingEmbedding, "_check", lambda *_: None)


class Noise:
    def draw(self, _: int, count: int) -> Tensor:
        return torch.empty(BATCH, count, device=ELSEWHERE)


def decoder(kind: str, dtype: str, engine: str) -> WindowDecoder:
    config = CONFIGS[kind]
    with ELSEWHERE, Uninitialised():
        prior = Prior(config, SIZES).eval().requires_grad_(requires_grad=False)
    if dtype == "int8":
        quantise_projections(prior.body.transformer)
    prior.set_compute_dtype(COMPUTE_DTYPES[dtype])
    if engine == "tensors":  # the steps that a CUDA graph records
        prior.body.transformer = StaticTransformer(prior.body.transformer)
    columns = (4 + config.labels.max_genre_words if config.labels else 3) + (
        config.lyrics.tokens if config.lyrics else 0
    )
    labels_BN = torch.ones(BATCH, columns, dtype=torch.int64, device=ELSEWHERE)
    above_BU = (
        torch.ones(BATCH, prior.above_tokens, dtype=torch.int64, device=ELSEWHERE) if prior.above is not None else None
    )
    return WindowDecoder(prior, prior.condition(labels_BN, above_BU))


@torch.inference_mode()
@pytest.mark.parametrize(("engine", "dtype"), [("tensors", "float16"), ("eager", "int8")])
@pytest.mark.parametrize("kind", CONFIGS)
def test_steps_stay_where_the_prior_is_and_the_host_asks_for_nothing(kind: str, dtype: str, engine: str) -> None:
    made = decoder(kind, dtype, engine)
    known_BT = torch.ones(BATCH, 3, dtype=torch.int64, device=ELSEWHERE)
    blocks = [*draw_codes(made, known_BT, 3, LevelSampling(), Noise(), start=0, prefill_chunk=2, flush=2)]
    assert [(block.device, block.shape) for block in blocks] == [(ELSEWHERE, (BATCH, count)) for count in (2, 1)]
    assert {tensor.device for name, tensor in made.save().items() if name != "position"} == {ELSEWHERE}


@pytest.mark.parametrize("sampling", [LevelSampling(temperature=0.9), LevelSampling(top_k=5), LevelSampling(top_p=0.9)])
def test_tokens_are_drawn_where_the_logits_are(sampling: LevelSampling) -> None:
    logits_BV = torch.empty(BATCH, 23, device=ELSEWHERE)
    assert draw_tokens(logits_BV, Noise().draw(0, 23), sampling).device == ELSEWHERE


@torch.no_grad()
def test_sound_is_computed_where_the_codec_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with ELSEWHERE, Uninitialised():
        codec = VQVAE(SIZES)
    codes = codec.encode(torch.zeros(2, 1000))
    assert [(row.device, row.shape) for row in codes] == [(ELSEWHERE, (2, 1000 // hop)) for hop in SIZES.hops]
    monkeypatch.setattr(VQVAE, "_check_codes", lambda *_: None)  # once a song, the host reads its inputs
    assert codec.decode(torch.zeros(2, 100, dtype=torch.int64), 2).device == ELSEWHERE


def test_the_tests_above_can_fail() -> None:
    with pytest.raises(RuntimeError, match=r"same device|meta"):
        torch.ones(2, device=ELSEWHERE) + torch.ones(2)
    with pytest.raises(RuntimeError, match="meta"):
        torch.ones(2, device=ELSEWHERE).sum().item()
