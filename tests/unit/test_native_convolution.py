"""Residual blocks of convolutions as our own kernels compute them, against the modules they were packed from."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.errors import DeviceError
from jukebox_core.families.jukebox.config import VQVAEConfig
from jukebox_core.families.jukebox.convnet import ResidualBlock, ResidualStack, StackConfig
from jukebox_core.families.jukebox.engines import prepare_vqvae
from jukebox_core.families.jukebox.native import pack_residuals
from jukebox_core.families.jukebox.streaming import Stream
from jukebox_core.families.jukebox.vqvae import VQVAE
from jukebox_core.runtime.native import compiled
from jukebox_core.runtime.native.convolution import PackedResidual, packs

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


def packed(plain: ResidualStack) -> ResidualStack:
    native = copy.deepcopy(plain)
    pack_residuals(native)
    assert all(isinstance(block, PackedResidual) for block in native.blocks)
    return native


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 11, 12, 97, 250])
@pytest.mark.parametrize(("width", "hidden"), [(2, 4), (32, 32), (40, 70), (64, 33)])
def test_packed_blocks_are_the_blocks(rows: int, width: int, hidden: int) -> None:
    plain, x_1CT = stack(width, hidden), torch.randn(1, width, rows)
    exact_1CT = copy.deepcopy(plain).double()(x_1CT.double())
    torch.testing.assert_close(packed(plain)(x_1CT).double(), exact_1CT, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("width", "hidden"), [(2, 4), (40, 70)])
def test_bfloat16_weights_round_what_they_multiply_and_nothing_else(width: int, hidden: int) -> None:
    block, x_1CT = stack(width, hidden, torch.bfloat16).blocks[2], torch.randn(1, width, 100)
    assert isinstance(block, ResidualBlock)
    whole = copy.deepcopy(block).double()
    hidden_1CT = whole.dilated(x_1CT.relu().bfloat16().double()).relu().float().bfloat16()
    exact_1CT = x_1CT + block.scale * whole.pointwise(hidden_1CT.double())
    found_1CT = PackedResidual(block.dilated, block.pointwise, block.scale)(x_1CT)
    torch.testing.assert_close(found_1CT.double(), exact_1CT, atol=2e-3, rtol=2e-3)  # a sum at a tie may round apart


@torch.no_grad()
@pytest.mark.parametrize("stretch", [1, 5, 30, 101])
def test_rows_are_the_same_bits_in_any_stretches(stretch: int) -> None:
    native, x_TC = packed(stack(32, 48)), torch.randn(300, 32)
    stream = Stream([native])
    parts = [stream.feed(x_TC[at : at + stretch], last=at + stretch >= 300) for at in range(0, 300, stretch)]
    assert torch.cat(parts).equal(native(x_TC.T[None])[0].T)


def test_a_vqvae_gives_the_same_codes_and_sound() -> None:
    torch.manual_seed(0)
    plain = VQVAE(SIZES).requires_grad_(requires_grad=False)
    for level in plain.levels:
        level.codebook.normal_(std=0.3)  # type: ignore[operator,union-attr]
    native, audio_BT = prepare_vqvae(copy.deepcopy(plain), "native"), torch.randn(2, 5000)
    for level, (codes_BT, expected_BT) in enumerate(zip(native.encode(audio_BT), plain.encode(audio_BT), strict=True)):
        assert codes_BT.equal(expected_BT)
        torch.testing.assert_close(native.decode(codes_BT, level), plain.decode(codes_BT, level), atol=1e-5, rtol=1e-4)
        assert native.decode(codes_BT, level, piece=7).equal(native.decode(codes_BT, level))


def test_what_has_no_kernels_is_left_as_it_is() -> None:
    for blocks in (stack(3, 4, torch.bfloat16), stack(4, 4, torch.float64), stack(4, 4, torch.float16)):
        pack_residuals(blocks)
        assert all(
            isinstance(block, ResidualBlock) and not packs(block.dilated, block.pointwise) for block in blocks.blocks
        )
    assert not [m for m in prepare_vqvae(VQVAE(SIZES), "eager").modules() if isinstance(m, PackedResidual)]


def test_without_a_compiler_sound_goes_the_plain_way_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiled.library.cache_clear()
    vqvae = prepare_vqvae(VQVAE(SIZES), "auto")
    assert not [m for m in vqvae.modules() if isinstance(m, PackedResidual)]
    assert [record.getMessage()[:35] for record in caplog.records] == ["sound goes through plain torch, whi"]
    with pytest.raises(DeviceError, match="there is no C"):
        prepare_vqvae(vqvae, "native")
    compiled.library.cache_clear()
