"""Convolutions along time, and residual blocks of two of them, as `convolution.cpp` computes them.

They are applied to sequences that come in stretches, time first and channels contiguous. What comes out for a row
depends on the rows around it alone, bit for bit, wherever stretches begin and end; what is added up is float32,
whatever the weights are. There is no gradient.

Shape suffixes: T rows, C channels of a row, I inputs, O outputs, K taps.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import nn

from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.matrices import PRECISIONS, Arena, Matrix, PackedProjection, packed_bytes
from jukebox_core.runtime.quantise import quantise

if TYPE_CHECKING:
    from torch import Tensor


class _Rows(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("kept", "fresh")),
        *((name, ctypes.c_int64) for name in ("kept_count", "fresh_count", "begin")),
    )

    @classmethod
    def of(cls, kept_TC: Tensor, fresh_TC: Tensor, begin: int) -> _Rows:
        return cls(kept_TC.data_ptr(), fresh_TC.data_ptr(), len(kept_TC), len(fresh_TC), begin)


class _Convolution(ctypes.Structure):
    _fields_ = (
        ("matrix", Matrix),
        *((name, ctypes.c_int64) for name in ("taps", "before", "dilation")),
        ("paired", ctypes.c_int32),
    )


class PackedConvolution(nn.Module):
    """A convolution whose weights are packed; rows beyond either end of a sequence count as zeros."""

    def __init__(
        self,
        weight_KIO: Tensor,
        bias_O: Tensor,
        *,
        before: int,
        dilation: int = 1,
        dtype: torch.dtype | None = None,
        paired: bool = False,
    ) -> None:
        """Packs the weights of taps that are `dilation` rows apart, of which `before` come before the row itself.

        Args:
            weight_KIO: Of three taps at most, float32 or bfloat16.
            bias_O: What is added.
            before: How many taps come before the row.
            dilation: Rows from one tap to the next.
            dtype: What the weights are rounded to; int8 has a scale for each output. By default what they are.
            paired: Compute two rows that are `dilation` apart together (see convolution.cpp), with three taps.
        """
        super().__init__()
        dtype = dtype or weight_KIO.dtype
        weight_KIO = _of_pairs(weight_KIO.detach().float()) if paired else weight_KIO.detach()
        self.taps, self.before, self.dilation, self.paired = len(weight_KIO), before, dilation, paired
        weight_IO, scale_O = weight_KIO.flatten(0, 1), None
        if dtype is torch.int8:
            weight_IO, scale_O = quantise(weight_IO.float())
        weight_IO = weight_IO.to(dtype)
        arena = Arena(packed_bytes(weight_IO.shape, weight_IO.dtype), large=False)  # arithmetic is what takes the time
        self.weights = PackedProjection(weight_IO, bias_O, scale_O, arena)

    def rows(self, kept_TC: Tensor, fresh_TC: Tensor, first: int, stop: int, begin: int = 0) -> Tensor:
        """Returns the float32 outputs [stop - first, O] at some rows.

        Args:
            kept_TC: Float32 rows of before, contiguous.
            fresh_TC: Those that follow them.
            first: The first row that is wanted, counted from the first that was kept.
            stop: One past the last.
            begin: Where in its sequence the first row is that was kept; by it, rows are paired.
        """
        out_TO = torch.empty(stop - first, self.weights.outputs)
        convolution, rows = self.told(), _Rows.of(kept_TC, fresh_TC, begin)
        library().convolve(
            ctypes.byref(convolution),
            ctypes.c_int32(self.weights.precision),
            ctypes.byref(rows),
            *map(ctypes.c_int64, (first, stop)),
            ctypes.c_void_p(out_TO.data_ptr()),
            ctypes.c_int64(torch.get_num_threads()),
        )
        return out_TO

    def told(self) -> _Convolution:
        """Returns what convolution.cpp knows of this; it is valid as long as this lives."""
        return _Convolution(self.weights.matrix(), self.taps, self.before, self.dilation, self.paired)


class PackedResidual(nn.Module):
    """``x + scale * pointwise(relu(dilated(relu(x))))`` with packed weights, of as many rows as x."""

    def __init__(self, dilated: PackedConvolution, pointwise: PackedConvolution, scale: float) -> None:
        super().__init__()
        self.dilated, self.pointwise, self.scale = dilated, pointwise, scale

    @property
    def dilation(self) -> int:
        """How many rows to either side an output depends on."""
        return self.dilated.dilation

    def rows(self, kept_TC: Tensor, fresh_TC: Tensor, first: int, stop: int, begin: int = 0) -> Tensor:
        """Returns the block's float32 outputs [stop - first, C] at some rows; see `PackedConvolution.rows`."""
        out_TC = torch.empty(stop - first, self.pointwise.weights.outputs)
        dilated, pointwise, rows = self.dilated.told(), self.pointwise.told(), _Rows.of(kept_TC, fresh_TC, begin)
        library().residual(
            ctypes.byref(dilated),
            ctypes.byref(pointwise),
            ctypes.c_int32(self.dilated.weights.precision),
            ctypes.byref(rows),
            *map(ctypes.c_int64, (first, stop)),
            ctypes.c_float(self.scale),
            ctypes.c_void_p(out_TC.data_ptr()),
            ctypes.c_int64(torch.get_num_threads()),
        )
        return out_TC


class PackedStrided(nn.Module):
    """A convolution of two strides of taps that lowers or raises the rate, as one of two taps over wider rows.

    To lower it, `stride` rows beside each other are one; to raise it, a row gives `stride` rows beside each other.
    """

    def __init__(self, wide: PackedConvolution, *, stride: int, padding: int, raises: bool) -> None:
        super().__init__()
        self.wide, self.stride, self.padding, self.raises = wide, stride, padding, raises


def _of_pairs(weight_KIO: Tensor) -> Tensor:
    """Returns the four taps that pairs of rows are multiplied with, of the three of a convolution."""
    before_IO, own_IO, after_IO = weight_KIO
    ends_IO = before_IO + after_IO
    return torch.stack([before_IO, (ends_IO + own_IO) / 2, (ends_IO - own_IO) / 2, after_IO])


def packs(conv: nn.Conv1d | nn.ConvTranspose1d, dtype: torch.dtype | None = None) -> bool:
    """Returns whether there are kernels for a convolution, which may not have memory yet, packed as `dtype`."""
    weight = conv.weight
    if weight.device.type not in ("cpu", "meta") or weight.dtype not in (torch.float32, torch.bfloat16):
        return False
    _, beside = PRECISIONS[dtype or weight.dtype]
    return conv.in_channels % beside == 0
