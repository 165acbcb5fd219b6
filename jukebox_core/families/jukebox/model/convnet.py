"""Dilated residual stacks and the strided convolutions around them, shared by the VQ-VAE and the upsamplers.

Source: docs/upstream.md, VQ-VAE (encoder and decoder blocks) and Conditioning (on the codes of the level above).

Shape suffixes: B batch, C channels, T time.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn

from jukebox_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class StackConfig:
    """One stack of dilated residual blocks."""

    width: int
    depth: int  # how many residual blocks
    hidden_width: int  # channels between the two convolutions of a block
    growth: int  # each block's dilation is this many times the one before
    cycle: int | None = None  # dilations start again from 1 after this many blocks; None: never
    scale: float = 1.0  # factor on each block's update
    reverse: bool = False  # largest dilation first

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of each block, in the order in which they run."""
        rising = [self.growth ** (depth % (self.cycle or self.depth)) for depth in range(self.depth)]
        return tuple(reversed(rising) if self.reverse else rising)

    @property
    def radius(self) -> int:
        """How many positions to either side an output position depends on."""
        return sum(self.dilations)


class ResidualBlock(nn.Module):
    """Adds ``scale * conv1(relu(conv3(relu(x))))`` to x, without normalisation; shapes stay as they are."""

    def __init__(self, config: StackConfig, dilation: int) -> None:
        super().__init__()
        self.scale = config.scale
        self.dilated = nn.Conv1d(config.width, config.hidden_width, 3, padding=dilation, dilation=dilation)
        self.pointwise = nn.Conv1d(config.hidden_width, config.width, 1)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Returns the updated x, [B, C, T]."""
        # The ReLU of the hidden activation runs in place, and the sum is fused: that saves two tensors as large as x,
        # which at the rate of audio bound the length that fits in memory.
        update_BCT = self.pointwise(self.dilated(F.relu(x_BCT)).relu_())
        return torch.add(x_BCT, update_BCT, alpha=self.scale)


class ResidualStack(nn.Module):
    """Residual blocks one after another, [B, C, T] to [B, C, T], with dilations from `StackConfig.dilations`."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(config, dilation) for dilation in config.dilations)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Returns x after all blocks, [B, C, T]."""
        for block in self.blocks:
            x_BCT = block(x_BCT)
        return x_BCT


class _Resampler(nn.Module):
    """Base class of both directions: layers that run in order, and the sizes that the receptive field follows from."""

    layers: nn.Sequential

    def __init__(self, *, times: int, stride: int, stack: StackConfig) -> None:
        super().__init__()
        if stride < 2 or stride % 2:
            raise ConfigError(f"stride is {stride}; it must be even, or lengths do not divide by it exactly (use 2)")
        if times < 1:
            raise ConfigError(f"a resampling block has {times} strided convolutions; give it at least 1")
        self.times, self.stride, self.radius = times, stride, stack.radius

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Returns x at the new rate."""
        return cast("Tensor", self.layers(x_BCT))


class Downsampler(_Resampler):
    """Lowers the rate: [B, inputs, T] to [B, outputs, T // stride**times], flooring after each convolution.

    Its layers are `times` steps of a strided convolution and a residual stack, then a conv3.
    """

    def __init__(self, inputs: int, outputs: int, *, times: int, stride: int, stack: StackConfig) -> None:
        super().__init__(times=times, stride=stride, stack=stack)

        def step(channels: int) -> nn.Module:
            strided = nn.Conv1d(channels, stack.width, 2 * stride, stride, stride // 2)
            return nn.Sequential(OrderedDict(strided=strided, stack=ResidualStack(stack)))

        steps = [step(channels) for channels in (inputs, *[stack.width] * (times - 1))]
        self.layers = nn.Sequential(*steps, nn.Conv1d(stack.width, outputs, 3, padding=1))


class Upsampler(_Resampler):
    """Raises the rate: [B, inputs, T] to [B, outputs, T * stride**times].

    Its layers are a conv3, then `times` steps of a residual stack and a transposed convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, times: int, stride: int, stack: StackConfig) -> None:
        super().__init__(times=times, stride=stride, stack=stack)

        def step(channels: int) -> nn.Module:
            strided = nn.ConvTranspose1d(stack.width, channels, 2 * stride, stride, stride // 2)
            return nn.Sequential(OrderedDict(stack=ResidualStack(stack), strided=strided))

        steps = [step(channels) for channels in (*[stack.width] * (times - 1), outputs)]
        self.layers = nn.Sequential(nn.Conv1d(inputs, stack.width, 3, padding=1), *steps)

    def reach(self, radius: int) -> int:
        """Returns the radius of the inputs that outputs within `radius` of a position depend on."""
        for _ in range(self.times):
            # A transposed convolution reads one input beyond the one that an output lies over.
            radius = -(-radius // self.stride) + 1 + self.radius
        return radius + 1
