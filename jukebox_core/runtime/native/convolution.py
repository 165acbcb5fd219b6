"""Convolutions along time, and residual blocks of two of them, as `convolution.cpp` computes them.

They are applied to sequences that arrive in chunks, time first and channels contiguous. The output of a row depends
only on the rows around it, bit for bit, whatever the chunks are; sums are float32 for every dtype of the weights. They
have no gradient.

Shape suffixes: T rows, C channels of a row, I inputs, O outputs, K taps.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import nn

from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.matrices import PRECISIONS, Arena, Matrix, PackedProjection, packed_bytes
from jukebox_core.runtime.quantise import quantise_per_channel

if TYPE_CHECKING:
    from torch import Tensor


class _Rows(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("buffered", "incoming")),
        *((name, ctypes.c_int64) for name in ("buffered_count", "incoming_count", "begin")),
    )

    @classmethod
    def of(cls, buffered_TC: Tensor, incoming_TC: Tensor, begin: int) -> _Rows:
        return cls(buffered_TC.data_ptr(), incoming_TC.data_ptr(), len(buffered_TC), len(incoming_TC), begin)


class _Convolution(ctypes.Structure):
    _fields_ = (
        ("matrix", Matrix),
        *((name, ctypes.c_int64) for name in ("taps", "before", "dilation")),
        ("paired", ctypes.c_int32),
    )


class PackedConvolution(nn.Module):
    """A convolution with packed weights and zero padding at both ends of a sequence."""

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
            weight_KIO: Three taps at most, float32 or bfloat16.
            bias_O: Bias.
            before: Number of taps before the row itself.
            dilation: Rows from one tap to the next.
            dtype: Dtype that the weights are converted to; int8 has a scale for each output. By default their own.
            paired: Compute pairs of rows that are `dilation` apart (Winograd, see convolution.cpp); needs three taps.
        """
        super().__init__()
        dtype = dtype or weight_KIO.dtype
        weight_KIO = _winograd_taps(weight_KIO.detach().float()) if paired else weight_KIO.detach()
        self.taps, self.before, self.dilation, self.paired = len(weight_KIO), before, dilation, paired
        weight_IO, scale_O = weight_KIO.flatten(0, 1), None
        if dtype is torch.int8:
            weight_IO, scale_O = quantise_per_channel(weight_IO.float())
        weight_IO = weight_IO.to(dtype)
        arena = Arena(packed_bytes(weight_IO.shape, weight_IO.dtype), huge_pages=False)  # not bound by memory
        self.weights = PackedProjection(weight_IO, bias_O, scale_O, arena)

    def rows(self, buffered_TC: Tensor, incoming_TC: Tensor, first: int, stop: int, begin: int = 0) -> Tensor:
        """Returns the float32 outputs [stop - first, O] of a range of rows.

        Args:
            buffered_TC: Rows buffered from earlier chunks, float32, contiguous.
            incoming_TC: The rows that follow them.
            first: First row of the range, counted from the first buffered one.
            stop: One past the last row of the range.
            begin: Position in the sequence of the first buffered row; it decides which rows are paired.
        """
        out_TO = torch.empty(stop - first, self.weights.outputs)
        convolution, rows = self.as_struct(), _Rows.of(buffered_TC, incoming_TC, begin)
        library().convolve(
            ctypes.byref(convolution),
            ctypes.c_int32(self.weights.precision),
            ctypes.byref(rows),
            *map(ctypes.c_int64, (first, stop)),
            ctypes.c_void_p(out_TO.data_ptr()),
            ctypes.c_int64(self.weights.threads(stop - first)),
        )
        return out_TO

    def as_struct(self) -> _Convolution:
        """Returns the arguments for convolution.cpp; valid as long as this module lives."""
        return _Convolution(self.weights.as_struct(), self.taps, self.before, self.dilation, self.paired)


class PackedResidual(nn.Module):
    """A residual block with packed weights: ``x + scale * pointwise(relu(dilated(relu(x))))``."""

    def __init__(self, dilated: PackedConvolution, pointwise: PackedConvolution, scale: float) -> None:
        super().__init__()
        self.dilated, self.pointwise, self.scale = dilated, pointwise, scale

    @property
    def dilation(self) -> int:
        """Radius of the receptive field, in rows."""
        return self.dilated.dilation

    def rows(self, buffered_TC: Tensor, incoming_TC: Tensor, first: int, stop: int, begin: int = 0) -> Tensor:
        """Returns the block's float32 outputs [stop - first, C] of a range of rows; see `PackedConvolution.rows`."""
        out_TC = torch.empty(stop - first, self.pointwise.weights.outputs)
        dilated, pointwise = self.dilated.as_struct(), self.pointwise.as_struct()
        rows = _Rows.of(buffered_TC, incoming_TC, begin)
        library().residual(
            ctypes.byref(dilated),
            ctypes.byref(pointwise),
            ctypes.c_int32(self.dilated.weights.precision),
            ctypes.byref(rows),
            *map(ctypes.c_int64, (first, stop)),
            ctypes.c_float(self.scale),
            ctypes.c_void_p(out_TC.data_ptr()),
            ctypes.c_int64(self.dilated.weights.threads(stop - first)),
        )
        return out_TC


class PackedStrided(nn.Module):
    """A strided or transposed convolution with a kernel of two strides, as one of two taps over wider rows.

    Strided: a wide row concatenates `stride` input rows. Transposed: an output concatenates `stride` rows.
    """

    def __init__(self, wide: PackedConvolution, *, stride: int, padding: int, transposed: bool) -> None:
        super().__init__()
        self.wide, self.stride, self.padding, self.transposed = wide, stride, padding, transposed


def _winograd_taps(weight_KIO: Tensor) -> Tensor:
    """Returns the four Winograd taps of a convolution of three taps (see convolution.cpp)."""
    before_IO, own_IO, after_IO = weight_KIO
    ends_IO = before_IO + after_IO
    return torch.stack([before_IO, (ends_IO + own_IO) / 2, (ends_IO - own_IO) / 2, after_IO])


def packs(conv: nn.Conv1d | nn.ConvTranspose1d, dtype: torch.dtype | None = None) -> bool:
    """Returns whether a kernel exists for a convolution packed as `dtype`; its weight may be a meta tensor."""
    weight = conv.weight
    if weight.device.type not in ("cpu", "meta") or weight.dtype not in (torch.float32, torch.bfloat16):
        return False
    _, interleaved = PRECISIONS[dtype or weight.dtype]
    return conv.in_channels % interleaved == 0
