"""Packed convolutions of the CPU kernels, against the modules they were packed from."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from jukebox_core.errors import DeviceError
from jukebox_core.families.jukebox.config import VQVAEConfig
from jukebox_core.families.jukebox.engines.engines import prepare_vqvae
from jukebox_core.families.jukebox.engines.native import pack_convolutions
from jukebox_core.families.jukebox.model.convnet import (
    Downsampler,
    ResidualBlock,
    ResidualStack,
    StackConfig,
    Upsampler,
)
from jukebox_core.families.jukebox.model.streaming import Stream
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.runtime.native import compiled
from jukebox_core.runtime.native.convolution import PackedConvolution, PackedResidual

if TYPE_CHECKING:
    from pathlib import Path

SIZES = VQVAEConfig(
    sample_rate=44100, downs=(2, 1, 1), strides=(2, 2, 4), multipliers=(2, 1, 1), width=4, depth=3, embedding_width=4,
    bins=17, dilation_growth=3,
)  # fmt: skip


def stack(width: int, hidden: int, dtype: torch.dtype = torch.float32) -> ResidualStack:
    torch.manual_seed(0)
    sizes = StackConfig(width=width, depth=4, hidden_width=hidden, growth=3, scale=0.5)
    return ResidualStack(sizes).requires_grad_(requires_grad=False).to(dtype)


def packed(plain: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    native = copy.deepcopy(plain)
    pack_convolutions(native, dtype)
    assert not [m for m in native.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d | ResidualBlock)]
    return native


def streamed(module: nn.Module, x_TC: Tensor, chunk: int | None = None) -> Tensor:
    stream, chunk = Stream([module]), chunk or len(x_TC)
    parts = [stream.feed(x_TC[at : at + chunk], last=at + chunk >= len(x_TC)) for at in range(0, len(x_TC), chunk)]
    return torch.cat(parts)


def exactly(plain: nn.Module, x_TC: Tensor) -> Tensor:
    found: Tensor = copy.deepcopy(plain).double()(x_TC.T[None].double())
    return found[0].T


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 11, 12, 97, 250])
@pytest.mark.parametrize(("width", "hidden"), [(2, 4), (32, 32), (40, 70), (64, 33), (256, 20)])
def test_packed_blocks_equal_the_blocks(rows: int, width: int, hidden: int) -> None:
    plain, x_TC = stack(width, hidden), torch.randn(rows, width)
    found_TC = streamed(packed(plain), x_TC)
    torch.testing.assert_close(found_TC.double(), exactly(plain, x_TC), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("rows", [4, 40, 413])
@pytest.mark.parametrize("stride", [2, 4])
def test_packed_strided_convolutions_equal_the_convolutions(rows: int, stride: int) -> None:
    torch.manual_seed(1)
    sizes = StackConfig(width=12, depth=2, hidden_width=8, growth=3)
    upsampler, downsampler = (
        kind(6, 10, times=2, stride=stride, stack=sizes).requires_grad_(requires_grad=False)
        for kind in (Upsampler, Downsampler)
    )
    x_TC, long_TC = torch.randn(rows, 6), torch.randn(rows * stride**2, 6)
    for plain, input_TC in ((upsampler, x_TC), (downsampler, long_TC)):
        found_TC = streamed(packed(plain), input_TC)
        torch.testing.assert_close(found_TC.double(), exactly(plain, input_TC), atol=1e-5, rtol=1e-5)
        assert streamed(packed(plain), input_TC, chunk=7).equal(found_TC)


@torch.no_grad()
@pytest.mark.parametrize(("width", "hidden"), [(2, 4), (40, 70)])
def test_bfloat16_weights_round_activations_and_nothing_else(width: int, hidden: int) -> None:
    plain, x_TC = stack(width, hidden, torch.bfloat16), torch.randn(100, width)
    block = plain.blocks[2]
    assert isinstance(block, ResidualBlock)
    whole = copy.deepcopy(block).double()
    hidden_1CT = whole.dilated(x_TC.T[None].relu().bfloat16().double()).relu().float().bfloat16()
    exact_TC = x_TC + block.scale * whole.pointwise(hidden_1CT.double())[0].T
    found_TC = streamed(packed(nn.ModuleList([block])), x_TC)
    torch.testing.assert_close(
        found_TC.double(), exact_TC, atol=2e-3, rtol=2e-3
    )  # a sum at a tie may round differently


@torch.no_grad()
@pytest.mark.parametrize("width", [40, 256])
def test_int8_weights_have_a_small_error(width: int) -> None:
    plain, x_TC = stack(width, width), torch.randn(200, width)
    exact_TC = exactly(plain, x_TC)
    added_TC = exact_TC - x_TC
    error_TC = streamed(packed(plain, torch.int8), x_TC) - exact_TC
    assert 1e-4 < error_TC.std() / added_TC.std() < 0.02


@torch.no_grad()
def test_weights_are_not_quantised_where_inputs_are_not_a_multiple_of_4() -> None:
    plain, x_TC = stack(6, 8), torch.randn(20, 6)
    assert streamed(packed(plain, torch.int8), x_TC).equal(streamed(packed(plain), x_TC))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("chunk", [1, 5, 30, 101])
@pytest.mark.parametrize("width", [32, 256])  # the second computes rows in pairs
def test_rows_are_the_same_bits_in_any_chunks(width: int, chunk: int, dtype: torch.dtype) -> None:
    native, x_TC = packed(stack(width, 48), dtype), torch.randn(300, width)
    pairs = [block.dilated.paired for block in native.modules() if isinstance(block, PackedResidual)]
    assert pairs == [width == 256] * 4
    assert streamed(native, x_TC, chunk).equal(streamed(native, x_TC))


def test_a_vqvae_gives_the_same_codes_and_sound() -> None:
    torch.manual_seed(0)
    plain = VQVAE(SIZES).requires_grad_(requires_grad=False)
    for level in plain.levels:
        level.codebook.normal_(std=0.3)  # type: ignore[operator,union-attr]
    native, audio_BT = prepare_vqvae(copy.deepcopy(plain), "native"), torch.randn(2, 5000)
    assert native.device == plain.device  # although it has no parameters any more
    assert not [*native.parameters()]
    for level in range(3):
        torch.testing.assert_close(native.features(audio_BT, level), plain.features(audio_BT, level))
    for level, (codes_BT, expected_BT) in enumerate(zip(native.encode(audio_BT), plain.encode(audio_BT), strict=True)):
        assert codes_BT.equal(expected_BT)
        torch.testing.assert_close(native.decode(codes_BT, level), plain.decode(codes_BT, level), atol=1e-5, rtol=1e-4)
        assert native.decode(codes_BT, level, chunk=7).equal(native.decode(codes_BT, level))


def test_modules_without_kernels_are_left_unchanged() -> None:
    for blocks in (stack(3, 4, torch.bfloat16), stack(4, 4, torch.float64), stack(4, 4, torch.float16)):
        pack_convolutions(blocks)
        assert all(isinstance(block, ResidualBlock) for block in blocks.blocks)
        assert not [m for m in blocks.modules() if isinstance(m, PackedConvolution)]
    assert not [m for m in prepare_vqvae(VQVAE(SIZES), "eager").modules() if isinstance(m, PackedConvolution)]


def test_without_a_compiler_the_vqvae_uses_plain_torch_and_one_warning_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiled.library.cache_clear()
    vqvae = prepare_vqvae(VQVAE(SIZES), "auto")
    assert not [m for m in vqvae.modules() if isinstance(m, PackedConvolution)]
    assert [record.getMessage()[:37] for record in caplog.records] == ["the VQ-VAE uses plain torch, which is"]
    with pytest.raises(DeviceError, match="no C"):
        prepare_vqvae(vqvae, "native")
    compiled.library.cache_clear()
