"""Residual blocks of convolutions along time as `convolution.cpp` computes them.

Shape suffixes: T rows, C channels of a row, I inputs, O outputs, K taps.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import nn

from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.matrices import PRECISIONS, Arena, PackedProjection, packed_bytes

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16)  # of weights that there are kernels for


class _Rows(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("kept", "fresh")),
        *((name, ctypes.c_int64) for name in ("kept_count", "fresh_count")),
    )


class PackedResidual(nn.Module):
    """``x + scale * pointwise(relu(dilated(relu(x))))`` with packed weights; there is no gradient.

    A row that comes out depends on the rows around it alone, bit for bit, wherever stretches begin and end. What is
    added up is float32, whatever the weights are.
    """

    def __init__(self, dilated: nn.Conv1d, pointwise: nn.Conv1d, scale: float) -> None:
        """Packs a convolution of three taps and one of a single tap, of float32 or bfloat16; see `packs`."""
        super().__init__()
        self.scale, self.dilation, self.channels = scale, dilated.dilation[0], dilated.in_channels
        self.dilated = _packed(dilated)
        self.pointwise = _packed(pointwise)

    def rows(self, kept_TC: Tensor, fresh_TC: Tensor, first: int, stop: int) -> Tensor:
        """Returns the block's float32 outputs at some rows; those beyond either end count as zeros.

        Args:
            kept_TC: Float32 rows of before, contiguous.
            fresh_TC: Those that follow them.
            first: The first row that is wanted, counted from the first that was kept.
            stop: One past the last.
        """
        out_TC = torch.empty(stop - first, self.channels)
        dilated, pointwise = self.dilated.matrix(), self.pointwise.matrix()
        rows = _Rows(kept_TC.data_ptr(), fresh_TC.data_ptr(), len(kept_TC), len(fresh_TC))
        library().residual(
            ctypes.byref(dilated),
            ctypes.byref(pointwise),
            ctypes.c_int32(self.dilated.precision),
            ctypes.byref(rows),
            *map(ctypes.c_int64, (self.channels, first, stop, self.dilation)),
            ctypes.c_float(self.scale),
            ctypes.c_void_p(out_TC.data_ptr()),
            ctypes.c_int64(torch.get_num_threads()),
        )
        return out_TC

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Returns the updated x of whole sequences, [B, C, T], in its dtype."""
        rows_BTC = x_BCT.transpose(1, 2).float().contiguous()
        out_BTC = torch.stack([self.rows(x_TC[:0], x_TC, 0, len(x_TC)) for x_TC in rows_BTC])
        return out_BTC.transpose(1, 2).to(x_BCT.dtype)


def packs(dilated: nn.Conv1d, pointwise: nn.Conv1d) -> bool:
    """Returns whether there are kernels for the convolutions of a residual block, which may not have memory yet."""
    dtype, device = dilated.weight.dtype, dilated.weight.device.type
    if device not in ("cpu", "meta") or dtype not in DTYPES or dilated.kernel_size != (3,):
        return False
    _, beside = PRECISIONS[dtype]
    return dilated.in_channels % beside == 0 and pointwise.in_channels % beside == 0


def _packed(conv: nn.Conv1d) -> PackedProjection:
    """Returns a convolution as the projection of all its taps beside each other."""
    assert conv.bias is not None
    weight_IO = conv.weight.detach().permute(2, 1, 0).flatten(0, 1)  # "I" is the channels of every tap
    return PackedProjection(weight_IO, conv.bias.detach(), None, Arena(packed_bytes(weight_IO.shape, weight_IO.dtype)))
