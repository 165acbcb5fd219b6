"""Perceiver-TF, the encoder of YourMT3 (Lu et al. 2023; Chang et al. 2024), with mixtures of experts.

    convolutions: three times x = pool(relu(conv(relu(conv(x))) + shortcut(x))), which halves the frequencies
    block: x += o(attention(norm(x), norm(source)));  the latents of each frame read the channels of the convolutions
           local layers, over the latents of each frame;  temporal layers, over the frames of each latent
    layer: x += o(attention(norm(x)));  x += experts(norm(x))

Rotary positions turn the first half of each head, of queries alone: latents are at equal distances from -1 to 1, frames
at 0, 1, 2, ... Legend: G segments, F frames, M frequencies, C channels of the convolutions, K latents, W width,
H heads, D head width, P pairs of numbers that are turned; N rows of a batch of any sort, L and S positions that attend
and are attended to, U experts that are used.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from jukebox_core.families.mt3.config import HALVINGS

if TYPE_CHECKING:
    from jukebox_core.families.mt3.config import PerceiverConfig

_EPSILON = 1e-5
_BASE = 10_000.0
_HIGHEST = 5.0  # half turns, from the middle latent to the last one, of the highest frequency


class ConvolutionBlock(nn.Module):
    """Two convolutions with a shortcut; halves the frequencies."""

    def __init__(self, read: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(read, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Conv2d(read, channels, 1) if read != channels else None

    def forward(self, x_GCFM: Tensor) -> Tensor:
        """Returns [G, C, F, M / 2]."""
        y_GCFM = functional.relu_(self.norm1(self.conv1(x_GCFM)))
        y_GCFM = self.norm2(self.conv2(y_GCFM))
        y_GCFM = y_GCFM + (x_GCFM if self.shortcut is None else self.shortcut(x_GCFM))
        return functional.avg_pool2d(functional.relu_(y_GCFM), (1, 2))


class RotaryAttention(nn.Module):
    """Multi-head attention with biases, whose queries have rotary positions."""

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.output = nn.Linear(config.width, config.width)

    def forward(self, x_NLW: Tensor, source_NSW: Tensor, angles_LP: Tensor) -> Tensor:
        """Returns the attention of `x` over `source`, [N, L, W]."""
        q_NHLD = rotated(self._split(self.query(x_NLW)), angles_LP)
        k_NHSD, v_NHSD = self._split(self.key(source_NSW)), self._split(self.value(source_NSW))
        y_NHLD = functional.scaled_dot_product_attention(q_NHLD, k_NHSD, v_NHSD)
        return self.output(y_NHLD.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, x_NLW: Tensor) -> Tensor:
        return x_NLW.reshape(*x_NLW.shape[:-1], self.heads, -1).transpose(1, 2)


class CrossAttention(nn.Module):
    """Latents read a source."""

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        self.norm_latents = nn.RMSNorm(config.width, _EPSILON)
        self.norm_source = nn.RMSNorm(config.width, _EPSILON)
        self.attention = RotaryAttention(config)

    def forward(self, x_NKW: Tensor, source_NSW: Tensor, angles_LP: Tensor) -> Tensor:
        """Returns [N, K, W]."""
        read = self.attention(self.norm_latents(x_NKW), self.norm_source(source_NSW), angles_LP)
        return x_NKW + read  # type: ignore[no-any-return]


class Expert(nn.Module):
    """Gated SiLU."""

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.width, config.mlp_width, bias=False)
        self.gate = nn.Linear(config.width, config.mlp_width, bias=False)
        self.w2 = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x_NW: Tensor) -> Tensor:
        """Returns [N, W]."""
        return self.w2(functional.silu(self.w1(x_NW)) * self.gate(x_NW))  # type: ignore[no-any-return]


class MixtureOfExperts(nn.Module):
    """Each vector goes to the experts with the highest weights, however many others do."""

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        self.used = config.experts_used
        self.router = nn.Linear(config.width, config.experts, bias=False)
        self.experts = nn.ModuleList(Expert(config) for _ in range(config.experts))

    def forward(self, x_NLW: Tensor) -> Tensor:
        """Returns [N, L, W]."""
        x_NW = x_NLW.flatten(0, 1)
        weights_NU, chosen_NU = self.router(x_NW).float().softmax(-1).topk(self.used, dim=-1)
        weights_NU = (weights_NU / weights_NU.sum(-1, keepdim=True)).to(x_NW.dtype)
        y_NW = torch.zeros_like(x_NW)
        for index, expert in enumerate(self.experts):
            rows, places = torch.where(chosen_NU == index)
            y_NW.index_add_(0, rows, expert(x_NW[rows]) * weights_NU[rows, places, None])
        return y_NW.view_as(x_NLW)


class LatentLayer(nn.Module):
    """Attention over all positions, then experts."""

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        self.norm_attention = nn.RMSNorm(config.width, _EPSILON)
        self.attention = RotaryAttention(config)
        self.norm_experts = nn.RMSNorm(config.width, _EPSILON)
        self.experts = MixtureOfExperts(config)

    def forward(self, x_NLW: Tensor, angles_LP: Tensor) -> Tensor:
        """Returns [N, L, W]."""
        normed = self.norm_attention(x_NLW)
        x_NLW = x_NLW + self.attention(normed, normed, angles_LP)
        return x_NLW + self.experts(self.norm_experts(x_NLW))  # type: ignore[no-any-return]


class PerceiverBlock(nn.Module):
    """Latents read their frame, then one another, then the same latent of other frames."""

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        self.cross = CrossAttention(config)
        self.local = nn.ModuleList(LatentLayer(config) for _ in range(config.local_depth))
        self.temporal = nn.ModuleList(LatentLayer(config) for _ in range(config.temporal_depth))


class Perceiver(nn.Module):
    """Spectrograms to the latents of each frame."""

    cross_frequencies: Tensor
    local_frequencies: Tensor
    temporal_frequencies: Tensor

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        channels = [1, *[config.convolutions] * HALVINGS]
        self.convolutions = nn.ModuleList(ConvolutionBlock(*pair) for pair in pairwise(channels))
        self.latents = nn.Parameter(torch.randn(config.latents, config.width) * 0.02)
        half = config.width // config.heads // 2
        self.register_buffer("cross_frequencies", latent_frequencies(half))
        self.register_buffer("local_frequencies", latent_frequencies(half))
        self.register_buffer("temporal_frequencies", _BASE ** -(torch.arange(0, half, 2) / half))
        self.blocks = nn.ModuleList(PerceiverBlock(config) for _ in range(config.blocks))

    def forward(self, frames_GFM: Tensor) -> Tensor:
        """Returns the latents of each frame, [G, F, K, W].

        Segments are computed one by one: intermediate results are large, and so no segment affects another.
        """
        return torch.stack([self.read(self.convolve(each_FM)) for each_FM in frames_GFM])

    def convolve(self, frames_FM: Tensor) -> Tensor:
        """Returns [F, C, W]: for each frame, channels of the convolutions over the frequencies that are left."""
        x_GCFM = frames_FM[None, None]
        for block in self.convolutions:
            x_GCFM = block(x_GCFM)
        return x_GCFM[0].transpose(0, 1)

    def read(self, source_FCW: Tensor) -> Tensor:
        """Returns the latents of each frame [F, K, W], from what the convolutions leave."""
        frames, device = len(source_FCW), source_FCW.device
        of_latents = torch.linspace(-1.0, 1.0, len(self.latents), device=device)[:, None]
        of_frames = torch.arange(frames, device=device)[:, None]
        x_FKW = self.latents.expand(frames, -1, -1)
        for block in self.blocks:
            x_FKW = block.cross(x_FKW, source_FCW, of_latents * self.cross_frequencies)  # type: ignore[operator]
            for layer in block.local:  # type: ignore[union-attr]
                x_FKW = layer(x_FKW, of_latents * self.local_frequencies)
            x_KFW = x_FKW.transpose(0, 1)
            for layer in block.temporal:  # type: ignore[union-attr]
                x_KFW = layer(x_KFW, of_frames * self.temporal_frequencies)
            x_FKW = x_KFW.transpose(0, 1)
        return x_FKW


def latent_frequencies(width: int) -> Tensor:
    """Returns frequencies of rotations over latents, in radians, [width / 2]: equally spaced from pi."""
    return torch.linspace(1.0, _HIGHEST, width // 2) * math.pi


def rotated(x_NHLD: Tensor, angles_LP: Tensor) -> Tensor:
    """Returns `x` with neighbouring pairs of its first 2 P numbers turned by an angle."""
    sin_LP, cos_LP = angles_LP.sin().to(x_NHLD.dtype), angles_LP.cos().to(x_NHLD.dtype)
    turned, kept = x_NHLD.tensor_split([2 * angles_LP.shape[-1]], dim=-1)
    even, odd = turned[..., ::2], turned[..., 1::2]
    pairs = torch.stack([even * cos_LP - odd * sin_LP, odd * cos_LP + even * sin_LP], dim=-1)
    return torch.cat([pairs.flatten(-2), kept], dim=-1)
