"""Packed models and their steps against plain torch: every precision, any batch, any row of the caches."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.errors import ConfigError, DeviceError
from jukebox_core.families.mt3.config import (
    FrontEndConfig,
    MemoryConfig,
    MT3Network,
    TransformerConfig,
    VocabularyConfig,
)
from jukebox_core.families.mt3.engines import engines
from jukebox_core.families.mt3.engines.engines import check_engine, prepare
from jukebox_core.families.mt3.engines.native import NativeMT3
from jukebox_core.families.mt3.model.cache import FIRST_ROOM
from jukebox_core.families.mt3.model.transformer import MT3
from jukebox_core.runtime.quantise import Int8Projection

if TYPE_CHECKING:
    from torch import Tensor

NETWORK = MT3Network(
    front_end=FrontEndConfig(mels=20, segment_frames=24),
    vocabulary=VocabularyConfig(),
    transformer=TransformerConfig(
        width=24, heads=3, head_width=12, mlp_width=40, encoder_depth=2, decoder_depth=2, embeddings=1536,
        positions="port", max_tokens=200,
    ),
    memory=MemoryConfig(length=8),
)  # fmt: skip
# The greatest distance of logits from those of plain float32, relative to them.
LIMITS = {"float32": 1e-5, "bfloat16": 0.02, "int8": 0.04}
DTYPES = pytest.mark.parametrize("dtype", LIMITS)


def plain() -> MT3:
    torch.manual_seed(4)
    return MT3(NETWORK).eval().requires_grad_(requires_grad=False)


def source(model: MT3, rows: int = 5) -> Tensor:
    torch.manual_seed(1)
    frames, before = torch.randn(rows, 24, 20), torch.randint(1400, (rows, 12))
    return model.with_memory(model.encode(frames), before)


def ids(rows: int, steps: int) -> Tensor:
    return torch.randint(1400, (rows, steps), generator=torch.Generator().manual_seed(2))


def step_logits(model: MT3, rows: int = 5, steps: int = 12) -> Tensor:
    cache = model.start(source(model, rows))
    return torch.stack([model.step(each, cache) for each in ids(rows, steps).unbind(1)], dim=1)


@DTYPES
@pytest.mark.parametrize("engine", ["native", "eager"])
def test_steps_are_those_of_plain_float32_within_the_precision(dtype: str, engine: str) -> None:
    exact, found = step_logits(plain()), step_logits(prepare(plain(), dtype, engine))
    assert found.dtype == torch.float32
    assert (found - exact).norm() < LIMITS[dtype] * exact.norm()
    if dtype != "float32":
        assert (found - exact).norm() > 1e-4 * exact.norm()  # it is another precision


@DTYPES
def test_steps_equal_decoding_without_a_cache_beyond_the_first_room(dtype: str) -> None:
    model, steps = prepare(plain(), dtype, "native"), 2 * FIRST_ROOM + 3
    whole = model(ids(2, steps), source(model, 2))
    found = step_logits(model, 2, steps)
    assert (found - whole).norm() < LIMITS[dtype] * whole.norm()


@DTYPES
def test_logits_of_a_row_are_the_same_bits_in_every_batch(dtype: str) -> None:
    model = prepare(plain(), dtype, "native")
    together, given, known = step_logits(model, 5), source(model, 5), ids(5, 12)
    for rows in ([0], [3, 1], [4, 0, 2]):
        cache = model.start(given[rows])
        found = [model.step(each, cache) for each in known[rows].unbind(1)]
        assert torch.equal(torch.stack(found, dim=1), together[rows])


@pytest.mark.parametrize("engine", ["native", "eager"])
@DTYPES
def test_rows_that_are_selected_go_on_as_copies(dtype: str, engine: str) -> None:
    """In an order, without some, and some of them twice, as beams are."""
    model = prepare(plain(), dtype, engine)
    given, known = source(model, 3), ids(3, 20)
    cache = model.start(given, 6)
    for each in known[:, :8].unbind(1):
        model.step(each, cache)
    rows = [2, 0, 2, 2]
    cache.select(torch.tensor(rows))
    after = ids(4, 6)
    found = [model.step(each, cache) for each in after[:, :5].unbind(1)]
    cache.select(torch.tensor([3, 1]))
    last = model.step(after[[3, 1], 5], cache)
    for place, row in enumerate(rows):
        alone = model.start(given[[row]])
        for each in known[[row], :8].unbind(1):
            model.step(each, alone)
        expected = [model.step(each, alone)[0] for each in after[[place]].unbind(1)]
        torch.testing.assert_close(torch.stack([each[place] for each in found]), torch.stack(expected[:5]))
        if place in (3, 1):
            torch.testing.assert_close(last[[3, 1].index(place)], expected[5])


def test_auto_is_native_float32_here() -> None:
    model = prepare(plain(), "auto", "auto")
    assert isinstance(model, NativeMT3)
    assert model.cache_dtype is torch.float32


def test_a_bfloat16_model_in_plain_torch_keeps_its_positions() -> None:
    model = prepare(plain(), "bfloat16", "eager")
    assert model.head.weight.dtype == torch.bfloat16
    assert model.decoder.frequencies.dtype == torch.float32
    assert torch.equal(model.encoder.frequencies, plain().encoder.frequencies)


def test_without_a_compiler_auto_is_plain_torch_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> None:
        raise DeviceError("no C++ compiler found")

    monkeypatch.setattr(engines, "library", missing)
    with caplog.at_level(logging.WARNING, logger="jukebox"):
        model = prepare(plain(), "int8")
    assert "plain torch, which is slower: no C++ compiler found" in caplog.text
    assert isinstance(model.head, Int8Projection)
    with pytest.raises(DeviceError, match=r"native does not work here: no C\+\+ compiler found"):
        prepare(plain(), "int8", "native")


def test_sizes_that_kernels_cannot_have_are_said() -> None:
    sizes = replace(NETWORK.transformer, mlp_width=42)
    with pytest.raises(DeviceError, match=r"a layer has 42 inputs; .* must be a multiple of 4"):
        prepare(MT3(replace(NETWORK, transformer=sizes)), "int8", "native")
    assert isinstance(prepare(MT3(replace(NETWORK, transformer=sizes)), "bfloat16", "native"), NativeMT3)


@pytest.mark.parametrize(
    ("dtype", "engine", "kind", "error", "words"),
    [
        ("float16", "auto", "cpu", ConfigError, "'float16'; transcription computes in one of auto, float32, bfloat16"),
        (
            "float32",
            "graph",
            "cuda",
            DeviceError,
            "'graph'; transcription has auto, eager, onnx, and native on the CPU",
        ),
        ("int8", "native", "cuda", DeviceError, "native does not work on cuda; choose auto"),
    ],
)
def test_what_is_not_available_is_refused(
    dtype: str, engine: str, kind: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        check_engine(dtype, engine, kind)
