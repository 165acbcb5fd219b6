"""Streaming convolutions, chunk by chunk, against the modules, which compute whole sequences."""

from __future__ import annotations

import itertools

import pytest
import torch

from jukebox_core.families.jukebox.config import UpsampleConfig
from jukebox_core.families.jukebox.model.conditioners import CodeConditioner
from jukebox_core.families.jukebox.model.convnet import Downsampler, ResidualStack, StackConfig, Upsampler
from jukebox_core.families.jukebox.model.streaming import Stream, tap_major

STACK = StackConfig(
    width=4, depth=5, hidden_width=6, growth=3, cycle=3, scale=0.5
)  # receptive field beyond short sequences


@pytest.fixture(params=["down 2", "down 4", "up 2", "up 4", "stack"])
def module(request: pytest.FixtureRequest) -> torch.nn.Module:
    kind, _, stride = request.param.partition(" ")
    torch.manual_seed(0)
    if kind == "stack":
        return ResidualStack(STACK).double()
    resampler = Downsampler if kind == "down" else Upsampler
    return resampler(4, 4, times=2, stride=int(stride), stack=STACK).double()


@torch.no_grad()
@pytest.mark.parametrize("rows", [16, 61, 200])
@pytest.mark.parametrize("chunks", [(1,), (5,), (0, 7, 1), (200,)])
def test_any_chunks_give_the_output_of_the_whole_sequence(
    module: torch.nn.Module, rows: int, chunks: tuple[int, ...]
) -> None:
    x_TC = torch.randn(rows, 4, dtype=torch.float64)
    stream, at, found = Stream([module]), 0, []
    for chunk in itertools.cycle(chunks):
        found.append(stream.feed(x_TC[at : at + chunk], last=at + chunk >= rows))
        at += chunk
        if at >= rows:
            break
    torch.testing.assert_close(torch.cat(found).T, module(x_TC.T[None])[0], atol=1e-12, rtol=0)


def test_the_layout_of_weights_changes_no_values(module: torch.nn.Module) -> None:
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    tap_major(module)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.shape == before[name].shape


def test_conditioning_is_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    config = UpsampleConfig(width=6, depth=8, dilation_growth=3, dilation_cycle=4, residual_scale=True)
    conditioner = CodeConditioner(config, 8, bins=11, times=2, stride=2)
    codes_BU = torch.randint(0, 11, (3, 20))
    trained_BTW = conditioner(codes_BU)
    assert trained_BTW.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(conditioner(codes_BU), trained_BTW)


@torch.no_grad()
def test_an_evaluation_in_mixed_precision_computes_in_the_precision_of_the_weights() -> None:
    torch.manual_seed(0)
    sizes = UpsampleConfig(width=8, depth=2, dilation_growth=3)
    conditioner, codes_BU = CodeConditioner(sizes, 8, bins=5, times=2, stride=2), torch.randint(5, (2, 16))
    expected_BTW = conditioner(codes_BU)
    with torch.autocast("cpu", torch.bfloat16):
        found_BTW = conditioner(codes_BU)
    torch.testing.assert_close(found_BTW, expected_BTW, rtol=0, atol=0)
