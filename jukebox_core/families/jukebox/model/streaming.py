"""Streaming convolutions: stacks of layers over sequences of any length, chunk by chunk, without recomputation.

The modules of `convnet` compute whole sequences, with gradients, and are the oracle. Here the same weights are applied
to a sequence that arrives in chunks. Every layer buffers the few rows that its next outputs depend on, so that memory
is bounded, results do not depend on the chunks, and a chunk can be small enough to stay in the processor's cache.

Time is the first dimension and channels are contiguous: a convolution is then one matrix product per tap, which reads
rows in place. Zero padding beyond either end of the sequence is skipped, not multiplied.

Shape suffixes: T rows, I and O channels in and out, C channels, K taps.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn

from jukebox_core.families.jukebox.model.convnet import Downsampler, ResidualBlock, ResidualStack, Upsampler
from jukebox_core.runtime.native.convolution import PackedConvolution, PackedResidual, PackedStrided

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Layer(Protocol):
    """A layer with the state of one sequence."""

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """Consumes the next rows, `last` if none follow; returns the output rows [T, O] that they complete (T >= 0)."""
        ...


class Stream:
    """A stack of layers with the state of one sequence, which is fed its rows in order."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        """Begins a sequence with `modules`: those of `convnet`, and convolutions of three taps."""
        self._layers = [layer for module in modules for layer in _layers(module)]

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """Consumes the next rows, `last` if none follow; returns the output rows [T, O] that they complete (T >= 0).

        It computes in the precision of its weights, also in an evaluation of a training in mixed precision.
        """
        mixed = torch.amp.is_autocast_available(x_TI.device.type)
        with torch.autocast(x_TI.device.type, enabled=False) if mixed else nullcontext():
            for layer in self._layers:
                x_TI = layer.feed(x_TI, last=last)
        return x_TI


def _layers(module: nn.Module) -> Iterator[Layer]:
    if isinstance(module, ResidualBlock):
        yield _Residual(module)
    elif isinstance(module, PackedResidual | PackedConvolution):
        yield _Packed(module)
    elif isinstance(module, PackedStrided):
        strided = _TransposedConv if module.transposed else _StridedConv
        yield strided(_PackedTwoTaps(module.wide), module.stride, module.padding)
    elif isinstance(module, nn.ConvTranspose1d):
        yield _TransposedConv(_TwoTaps(module), module.stride[0], int(module.padding[0]))
    elif isinstance(module, nn.Conv1d) and module.stride[0] > 1:
        yield _StridedConv(_TwoTaps(module), module.stride[0], int(module.padding[0]))
    elif isinstance(module, nn.Conv1d):
        yield _DilatedConv(module)
    else:
        assert isinstance(module, Downsampler | Upsampler | ResidualStack | nn.Sequential | nn.ModuleList)
        for child in module.children():
            yield from _layers(child)


class _RowBuffer:
    """Input rows that a layer still needs: those within `radius` of outputs to come."""

    def __init__(self, radius: int) -> None:
        self._radius = radius
        self._buffered_TI: Tensor | None = None
        self._done = 0  # buffered rows whose output was returned
        self._begin = 0  # position in the sequence of the first buffered row

    def feed(self, x_TI: Tensor, *, last: bool) -> tuple[Tensor, int, int]:
        """Returns the buffered rows with x, and the range [first, stop) of them whose outputs can be computed now."""
        buffered_TI, first, stop, _ = self.append(x_TI, last=last)
        return torch.cat([buffered_TI, x_TI]), first, stop

    def append(self, x_TI: Tensor, *, last: bool) -> tuple[Tensor, int, int, int]:
        """Buffers x; returns the rows buffered before it, the range [first, stop) of rows to compute, and `begin`.

        The range counts the buffered rows and those of x; `begin` is the position in the sequence of the first of them.
        """
        buffered_TI = x_TI[:0] if self._buffered_TI is None else self._buffered_TI
        first, begin = self._done, self._begin
        stop = max(first, len(buffered_TI) + len(x_TI) - (0 if last else self._radius))
        dropped = max(0, stop - self._radius)
        if not last:
            self._buffered_TI = torch.cat([buffered_TI[dropped:], x_TI[max(0, dropped - len(buffered_TI)) :]])
        self._done = stop - dropped
        self._begin += dropped
        return buffered_TI, first, stop, begin


class _DilatedConv:
    """A convolution of three taps, `dilation` rows apart."""

    def __init__(self, conv: nn.Conv1d) -> None:
        self._weight_KOI = conv.weight.permute(2, 0, 1).contiguous()  # a view where `tap_major` was called
        self._bias_O = cast("Tensor", conv.bias)
        self.dilation = conv.dilation[0]
        self._rows = _RowBuffer(self.dilation)

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        return self.outputs(*self._rows.feed(x_TI, last=last))

    def outputs(self, x_TI: Tensor, first: int, stop: int) -> Tensor:
        """Returns the outputs of the rows [first, stop), in the dtype of the weights; rows outside x are zero."""
        x_TI = x_TI.to(self._weight_KOI.dtype)
        y_TO = torch.addmm(self._bias_O, x_TI[first:stop], self._weight_KOI[1].t())
        for weight_OI, shift in ((self._weight_KOI[0], -self.dilation), (self._weight_KOI[2], self.dilation)):
            low, high = max(first, -shift), min(stop, len(x_TI) - shift)
            if low < high:
                y_TO[low - first : high - first].addmm_(x_TI[low + shift : high + shift], weight_OI.t())
        return y_TO


class _Residual:
    """A residual block. The residual stream keeps its dtype; both convolutions compute in that of the weights."""

    def __init__(self, block: ResidualBlock) -> None:
        self._dilated = _DilatedConv(block.dilated)
        self._weight_OI = block.pointwise.weight[:, :, 0]
        self._bias_O = cast("Tensor", block.pointwise.bias)
        self._scale = block.scale
        self._rows = _RowBuffer(self._dilated.dilation)

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        rows_TI, first, stop = self._rows.feed(x_TI, last=last)
        hidden_TC = self._dilated.outputs(rows_TI.relu(), first, stop).relu_()
        update_TO = torch.addmm(self._bias_O, hidden_TC, self._weight_OI.t())
        return torch.add(rows_TI[first:stop], update_TO, alpha=self._scale)


class _Packed:
    """A residual block, or a convolution of stride 1, with packed weights: its kernel reads rows in place."""

    def __init__(self, layer: PackedResidual | PackedConvolution) -> None:
        self._layer = layer
        self._rows = _RowBuffer(layer.dilation)

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        x_TI = x_TI.float().contiguous()
        buffered_TI, first, stop, begin = self._rows.append(x_TI, last=last)
        return self._layer.rows(buffered_TI, x_TI, first, stop, begin)


class _TwoTaps:
    """A strided convolution with a kernel of two strides, as one of two taps over wider rows; see `two_tap_weights`."""

    def __init__(self, conv: nn.Conv1d | nn.ConvTranspose1d) -> None:
        (self._earlier_IO, self._later_IO), self._bias_O = two_tap_weights(conv)
        self.inputs, self.outputs = self._earlier_IO.shape
        self.dtype = self._earlier_IO.dtype

    def products(self, x_TI: Tensor) -> Tensor:
        """Returns the output of every pair of adjacent rows, [T - 1, O]."""
        x_TI = x_TI.to(self.dtype)
        return torch.addmm(self._bias_O, x_TI[:-1], self._earlier_IO).addmm_(x_TI[1:], self._later_IO)


class _PackedTwoTaps:
    """`_TwoTaps` with packed weights."""

    def __init__(self, wide: PackedConvolution) -> None:
        self._wide = wide
        self.inputs, self.outputs = wide.weights.inputs // wide.taps, wide.weights.outputs

    def products(self, x_TI: Tensor) -> Tensor:
        """Returns the output of every pair of adjacent rows, [T - 1, O]."""
        x_TI = x_TI.float().contiguous()
        return self._wide.rows(x_TI[:0], x_TI, 1, len(x_TI))


class _StridedConv:
    """A strided convolution: a group of `stride` rows, with the group before it, gives one row."""

    def __init__(self, wide: _TwoTaps | _PackedTwoTaps, stride: int, padding: int) -> None:
        self._wide, self._stride, self._padding = wide, stride, padding
        self._buffered_TI: Tensor | None = None

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        zeros_TI = x_TI.new_zeros(self._padding, x_TI.shape[1])
        rows_TI = torch.cat(
            [zeros_TI if self._buffered_TI is None else self._buffered_TI, x_TI, *([zeros_TI] if last else [])]
        )
        wide = len(rows_TI) // self._stride
        wide_TI = rows_TI[: wide * self._stride].view(wide, self._wide.inputs)
        self._buffered_TI = rows_TI[max(0, wide - 1) * self._stride :].clone()
        return self._wide.products(wide_TI) if wide > 1 else x_TI.new_empty(0, self._wide.outputs)


class _TransposedConv:
    """A transposed convolution: each row, with the one before it, gives `stride` rows."""

    def __init__(self, wide: _TwoTaps | _PackedTwoTaps, stride: int, padding: int) -> None:
        self._wide, self._padding, self._outputs = wide, padding, wide.outputs // stride
        self._before_1I: Tensor | None = None

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        if not len(x_TI) and not last:
            return x_TI.new_empty(0, self._outputs)
        begins, zero_1I = self._before_1I is None, x_TI.new_zeros(1, x_TI.shape[1])
        before_1I = zero_1I if self._before_1I is None else self._before_1I
        rows_TI = torch.cat([before_1I, x_TI, *([zero_1I] if last else [])])
        self._before_1I = rows_TI[-1:].clone()
        y_TO = self._wide.products(rows_TI).view(-1, self._outputs)
        return y_TO[self._padding if begins else 0 : len(y_TO) - (self._padding if last else 0)]


def two_tap_weights(conv: nn.Conv1d | nn.ConvTranspose1d) -> tuple[Tensor, Tensor]:
    """Returns weight and bias of a strided convolution with a kernel of two strides, as one of two taps and stride 1.

    Strided: a wide row concatenates the channels of `stride` rows (space to depth); the taps are it and the wide row
    before it. Transposed: the taps are a row and the one before it; outputs concatenate the channels of `stride` rows.

    Returns:
        The weight [2, I, O], that of the earlier row first, and the bias [O].
    """
    assert conv.bias is not None
    weights, stride = torch.split(conv.weight, conv.stride[0], dim=2), conv.stride[0]
    if not isinstance(conv, nn.ConvTranspose1d):
        return torch.stack([weight_OIK.permute(2, 1, 0).flatten(0, 1) for weight_OIK in weights]), conv.bias
    own_IO, before_IO = (weight_IOK.permute(0, 2, 1).flatten(1, 2) for weight_IOK in weights)
    return torch.stack([before_IO, own_IO]), conv.bias.repeat(stride)


def tap_major(module: nn.Module) -> None:
    """Stores the weights of convolutions tap by tap, as a `Stream` reads them; shapes and values do not change."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv1d):
            conv.weight.data = conv.weight.data.permute(2, 0, 1).contiguous().permute(1, 2, 0)
