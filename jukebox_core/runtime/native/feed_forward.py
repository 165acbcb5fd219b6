"""The feed-forward half of a layer for many positions, in one call of `feed_forward.cpp`.

Shape suffixes: B batch, T positions, W width.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, cast

import torch

from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.matrices import Matrix, PackedProjection

if TYPE_CHECKING:
    from torch import Tensor, nn


class _FeedForward(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("norm_weight", "norm_bias")),
        *((name, Matrix) for name in ("project_in", "project_out")),
        *((name, ctypes.c_float) for name in ("residual_scale", "epsilon")),
        ("precision", ctypes.c_int32),
    )


def can_feed(x_BTW: Tensor, project_in: nn.Module, project_out: nn.Module) -> bool:
    """Returns whether `feed_forward` has these: float32 activations, and packed weights of one precision."""
    if x_BTW.dtype is not torch.float32 or not isinstance(project_in, PackedProjection):
        return False
    return isinstance(project_out, PackedProjection) and project_in.precision == project_out.precision


def feed_forward(
    x_BTW: Tensor,
    update_BTW: Tensor,
    norm: nn.LayerNorm,
    project_in: PackedProjection,
    project_out: PackedProjection,
    scale: float,
) -> Tensor:
    """Returns x + scale * (update + feed-forward part), float32 [B, T, W]; its activation is the quick GELU.

    Args:
        x_BTW: the input of the layer.
        update_BTW: the output of its attention.
        norm: before the feed-forward part.
        project_in: its first projection.
        project_out: its second projection.
        scale: of what the layer adds.
    """
    x, update = x_BTW.contiguous(), update_BTW.contiguous()
    out, rows = torch.empty_like(x), x.numel() // x.shape[-1]
    weight, bias = norm.weight.float().contiguous(), cast("Tensor", norm.bias).float().contiguous()
    layer = _FeedForward(
        weight.data_ptr(), bias.data_ptr(), project_in.as_struct(), project_out.as_struct(), scale, norm.eps,
        project_in.precision,
    )  # fmt: skip
    kernels, threads = library(), ctypes.c_int64(project_in.threads(rows))
    scratch = torch.empty(kernels.feed_forward_scratch(ctypes.byref(layer), ctypes.c_int64(rows), threads))
    kernels.feed_forward(
        ctypes.byref(layer),
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (x, update, out)),
        ctypes.c_int64(rows),
        ctypes.c_void_p(scratch.data_ptr()),
        threads,
    )
    return out
