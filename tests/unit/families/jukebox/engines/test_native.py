"""The CPU kernels: products, decode steps, compilation, and the fallback without a compiler."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.errors import DeviceError
from jukebox_core.families.jukebox.engines.engines import prepare, quantise_projections
from jukebox_core.families.jukebox.engines.native import NativeTransformer
from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder, decode_window
from jukebox_core.runtime.native import compiled
from jukebox_core.runtime.native.matrices import Arena, PackedProjection, packed_bytes
from jukebox_core.runtime.quantise import quantise_per_channel
from jukebox_core.sampling.noise import CounterNoise
from tests.helpers.models.tiny_priors import CONFIGS, tiny_codes, tiny_condition, tiny_prior

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior

KINDS = pytest.mark.parametrize("kind", CONFIGS)


def projection(weight: Tensor, bias: Tensor, scale: Tensor | None = None) -> PackedProjection:
    return PackedProjection(weight, bias, scale, Arena(packed_bytes(weight.shape, weight.dtype)))


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 11, 16, 33])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 1), (64, 32), (132, 45), (480, 97), (640, 70)])
def test_products(rows: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(rows)
    x, weight, bias = torch.randn(rows, inputs), torch.randn(inputs, outputs), torch.randn(outputs)
    exact = x.double() @ weight.double() + bias
    torch.testing.assert_close(projection(weight, bias)(x).double(), exact, atol=2e-5, rtol=1e-5)
    half = x.bfloat16().double() @ weight.bfloat16().double() + bias
    torch.testing.assert_close(projection(weight.bfloat16(), bias)(x).double(), half, atol=1e-4, rtol=1e-4)
    whole, scale = quantise_per_channel(weight)
    rounded = x.double() @ (whole * scale).double() + bias
    found = projection(whole, bias, scale)(x).double()
    assert (found - rounded).norm() < 0.01 * rounded.norm()  # activations are quantised too


def test_the_largest_weight_of_an_output_becomes_127() -> None:
    weight = torch.tensor([[1.0, 0.0, -4.0], [-2.0, 0.0, 1.0]])
    whole, scale = quantise_per_channel(weight)
    assert whole.tolist() == [[64, 0, -127], [-127, 0, 32]]
    torch.testing.assert_close(whole * scale, weight, atol=0.02, rtol=0.0)


def native(kind: str, dtype: torch.dtype = torch.float32) -> Prior:
    prior = tiny_prior(kind)
    if dtype is torch.int8:
        quantise_projections(prior.body.transformer)
        dtype = torch.bfloat16
    prior.set_compute_dtype(dtype)
    return prepare(prior, "native")


def step_logits(prior: Prior, songs: int, known: int = 7) -> Tensor:
    """Returns the logits of the steps after `known` codes, with given codes fed back."""
    codes, decoder = tiny_codes(prior, songs), WindowDecoder(prior, tiny_condition(prior, songs))
    decoder.read(prior.sequence(codes[:, :known], decoder.condition))
    features = []
    for place in range(known, codes.shape[1]):
        features.append(decoder.predict())
        decoder.feed(codes[:, place] + prior.shift)
    return prior.logits(torch.cat(features, dim=1))


@KINDS
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05), (torch.int8, 0.1)])
def test_steps_equal_those_of_plain_torch(kind: str, dtype: torch.dtype, within: float) -> None:
    """Each dtype against plain float32, by the relative distance of the logits."""
    exact, found = step_logits(tiny_prior(kind), 3), step_logits(native(kind, dtype), 3)
    assert (found - exact).norm() < within * exact.norm()


@KINDS
def test_a_sample_is_the_same_bits_in_any_batch(kind: str) -> None:
    prior = native(kind)
    songs = (0, 1, 2, 3, 4)

    def run(chosen: tuple[int, ...]) -> Tensor:
        condition = tiny_condition(prior, len(songs))
        picked = type(condition)(
            *(None if part is None else part[list(chosen)] for part in (
                condition.start_B1W, condition.signal_BTW, condition.lyrics_BN, condition.encoder_BNW
            ))
        )  # fmt: skip
        noise = CounterNoise(3, prior.config.level, chosen)
        known = tiny_codes(prior, len(songs))[list(chosen), :4]
        return torch.cat([*decode_window(prior, picked, known, 28, LevelSampling(), noise, start=0)], dim=1)

    together = run(songs)
    for chosen in ((0,), (3, 1), (4, 2, 0)):
        assert run(chosen).equal(together[list(chosen)])


@KINDS
def test_a_state_is_saved_and_restored_to_the_bit(kind: str) -> None:
    prior = native(kind)
    codes, condition = tiny_codes(prior), tiny_condition(prior)
    first = WindowDecoder(prior, condition)
    for place in range(9):
        first.predict()
        first.feed(codes[:, place] + prior.shift)
    saved = {name: tensor.clone() for name, tensor in first.save().items()}
    second = WindowDecoder(prior, condition)
    second.restore(saved)
    assert second.predict().equal(first.predict())


def test_whole_windows_use_packed_weights() -> None:
    plain, packed = tiny_prior("one_sequence"), native("one_sequence")
    codes, condition = tiny_codes(plain), tiny_condition(plain)
    torch.testing.assert_close(packed(codes, condition), plain(codes, condition), atol=1e-4, rtol=1e-4)
    assert prepare(packed) is packed


def test_kernels_are_compiled_once_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small = tmp_path / "small.cpp"  # compiling the real kernels takes 15 s
    small.write_text(
        'extern "C" { long step_scratch() { return 7; } long multiply_scratch() { return 8; } '
        "long feed_forward_scratch() { return 9; } }\n"
    )
    monkeypatch.setattr(compiled, "SOURCES", (small,))
    compiled.library.cache_clear()
    assert compiled.library().step_scratch() == 7
    (kept,) = (tmp_path / "jukebox/native").iterdir()
    compiled.library.cache_clear()
    monkeypatch.setattr(compiled, "_compile", lambda path: pytest.fail(f"{path} was compiled again"))
    assert compiled.library().multiply_scratch() == 8
    assert kept.suffix == ".so"
    compiled.library.cache_clear()


def test_a_compilation_that_fails_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wrong, compiler = tmp_path / "wrong.cpp", tmp_path / "compiler"
    wrong.write_text("no C++\n")
    compiler.write_text(f"#!/bin/sh\necho once >> {tmp_path}/calls\necho wrong source >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(compiled, "SOURCES", (wrong,))
    compiled.library.cache_clear()
    for _ in range(3):
        with pytest.raises(DeviceError, match=r"wrong source; set hardware\.engine=eager, or another CXX"):
            compiled.library()
    assert (tmp_path / "calls").read_text() == "once\n"


def test_without_a_compiler_plain_torch_samples_and_one_warning_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiled.library.cache_clear()
    prior = tiny_prior("top")
    with caplog.at_level(logging.WARNING):
        assert not isinstance(prepare(prior, "auto").body.transformer, NativeTransformer)
    (record,) = caplog.records
    assert "no C++ compiler found (no-such-compiler)" in record.getMessage()
    with pytest.raises(DeviceError, match="engine=native does not work here: no C"):
        prepare(prior, "native")
    compiled.library.cache_clear()


def test_dtypes_without_kernels_are_refused_by_name_and_use_plain_torch_with_auto() -> None:
    prior = tiny_prior("top")
    prior.set_compute_dtype(torch.float16)
    with pytest.raises(DeviceError, match=r"no kernels for torch\.float16"):
        prepare(prior, "native")
    assert prepare(prior, "auto") is prior


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_products_stay_in_registers(dtype: torch.dtype) -> None:
    """Vectors wider than the CPU's lived in memory: kernels took forty times as long as torch's float32 products."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(128, 1024), torch.randn(1024, 512), torch.randn(512)
    stored, scale = quantise_per_channel(weight) if dtype is torch.int8 else (weight.to(dtype), None)
    packed, threads = projection(stored, bias, scale), torch.get_num_threads()

    def seconds(work: Callable[[Tensor], Tensor]) -> float:
        took = []
        for _ in range(5):
            began = time.thread_time()
            work(x)
            took.append(time.thread_time() - began)
        return min(took)

    torch.set_num_threads(1)
    try:
        assert seconds(packed) < 10 * seconds(lambda x: x @ weight + bias)
    finally:
        torch.set_num_threads(threads)
