"""Convolution stacks over sequences of any length, stretch by stretch, without computing any position twice.

The modules of `convnet` say what is computed, whole sequences at a time, with gradients: they are the oracle. Here the
same weights are applied to a sequence that comes in stretches. Every layer keeps the few rows that its next output
needs, so that memory is bounded, joins are exact, and a stretch can be short enough to stay in the processor's cache.

Time comes first and channels are contiguous: a convolution is then one matrix product a tap, which reads the rows
where they lie. Rows beyond either end of the sequence are zero and are left out, not multiplied.

Shape suffixes: T rows, I and O channels in and out, C channels, K taps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn

from jukebox_core.families.jukebox.model.convnet import Downsampler, ResidualBlock, ResidualStack, Upsampler
from jukebox_core.runtime.native.convolution import PackedConvolution, PackedResidual, PackedStrided

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Layer(Protocol):
    """One layer in the middle of a sequence."""

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """Takes the next rows, `last` if none follow; returns the rows [T, O] that they complete, perhaps none."""
        ...


class Stream:
    """Layers in the middle of one sequence: what they are fed are its rows in order."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        """Begins a sequence with `modules`: those of `convnet`, and convolutions of three taps."""
        self._layers = [layer for module in modules for layer in _layers(module)]

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """Takes the next rows, `last` if none follow; returns the rows [T, O] that they complete, perhaps none."""
        for layer in self._layers:
            x_TI = layer.feed(x_TI, last=last)
        return x_TI


def _layers(module: nn.Module) -> Iterator[Layer]:
    if isinstance(module, ResidualBlock):
        yield _Residual(module)
    elif isinstance(module, PackedResidual | PackedConvolution):
        yield _Native(module)
    elif isinstance(module, PackedStrided):
        strided = _Raising if module.raises else _Lowering
        yield strided(_NativeWide(module.wide), module.stride, module.padding)
    elif isinstance(module, nn.ConvTranspose1d):
        yield _Raising(_Wide(module), module.stride[0], int(module.padding[0]))
    elif isinstance(module, nn.Conv1d) and module.stride[0] > 1:
        yield _Lowering(_Wide(module), module.stride[0], int(module.padding[0]))
    elif isinstance(module, nn.Conv1d):
        yield _Taps(module)
    else:
        assert isinstance(module, Downsampler | Upsampler | ResidualStack | nn.Sequential | nn.ModuleList)
        for child in module.children():
            yield from _layers(child)


class _Rows:
    """Rows that a layer was fed and needs again: those within `reach` of outputs to come."""

    def __init__(self, reach: int) -> None:
        self._reach = reach
        self._kept_TI: Tensor | None = None
        self._answered = 0  # of those kept: rows whose output was given
        self._begin = 0  # where in the sequence those kept begin

    def feed(self, x_TI: Tensor, *, last: bool) -> tuple[Tensor, int, int]:
        """Returns the rows there are, and from which to which an output can be given now."""
        kept_TI, first, stop, _ = self.keep(x_TI, last=last)
        return torch.cat([kept_TI, x_TI]), first, stop

    def keep(self, x_TI: Tensor, *, last: bool) -> tuple[Tensor, int, int, int]:
        """Returns the rows kept until now, from which to which of them and of x an output can be given, and `begin`.

        `begin` is where in the sequence the first row is that was kept.
        """
        kept_TI = x_TI[:0] if self._kept_TI is None else self._kept_TI
        first, begin = self._answered, self._begin
        stop = max(first, len(kept_TI) + len(x_TI) - (0 if last else self._reach))
        forgotten = max(0, stop - self._reach)
        if not last:
            self._kept_TI = torch.cat([kept_TI[forgotten:], x_TI[max(0, forgotten - len(kept_TI)) :]])
        self._answered = stop - forgotten
        self._begin += forgotten
        return kept_TI, first, stop, begin


class _Taps:
    """A convolution of three taps, `dilation` rows apart."""

    def __init__(self, conv: nn.Conv1d) -> None:
        self._weight_KOI = conv.weight.permute(2, 0, 1).contiguous()  # costs nothing where `tap_major` was called
        self._bias_O = cast("Tensor", conv.bias)
        self.dilation = conv.dilation[0]
        self._rows = _Rows(self.dilation)

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        return self.outputs(*self._rows.feed(x_TI, last=last))

    def outputs(self, x_TI: Tensor, first: int, stop: int) -> Tensor:
        """Returns the outputs at rows `first` to `stop`, in the dtype of the weights; rows outside x are zero."""
        x_TI = x_TI.to(self._weight_KOI.dtype)
        y_TO = torch.addmm(self._bias_O, x_TI[first:stop], self._weight_KOI[1].t())
        for weight_OI, shift in ((self._weight_KOI[0], -self.dilation), (self._weight_KOI[2], self.dilation)):
            low, high = max(first, -shift), min(stop, len(x_TI) - shift)
            if low < high:
                y_TO[low - first : high - first].addmm_(x_TI[low + shift : high + shift], weight_OI.t())
        return y_TO


class _Residual:
    """A residual block. What is added up keeps the dtype it has; both convolutions compute in the weights'."""

    def __init__(self, block: ResidualBlock) -> None:
        self._taps = _Taps(block.dilated)
        self._weight_OI = block.pointwise.weight[:, :, 0]
        self._bias_O = cast("Tensor", block.pointwise.bias)
        self._scale = block.scale
        self._rows = _Rows(self._taps.dilation)

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        rows_TI, first, stop = self._rows.feed(x_TI, last=last)
        hidden_TC = self._taps.outputs(rows_TI.relu(), first, stop).relu_()
        update_TO = torch.addmm(self._bias_O, hidden_TC, self._weight_OI.t())
        return torch.add(rows_TI[first:stop], update_TO, alpha=self._scale)


class _Native:
    """A residual block, or a convolution of rows of their own, with packed weights: it reads rows where they lie."""

    def __init__(self, layer: PackedResidual | PackedConvolution) -> None:
        self._layer = layer
        self._rows = _Rows(layer.dilation)

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        x_TI = x_TI.float().contiguous()
        kept_TI, first, stop, begin = self._rows.keep(x_TI, last=last)
        return self._layer.rows(kept_TI, x_TI, first, stop, begin)


class _Wide:
    """A strided convolution with two strides of taps, as one of two taps over wider rows; see `wide_weights`."""

    def __init__(self, conv: nn.Conv1d | nn.ConvTranspose1d) -> None:
        (self._earlier_IO, self._later_IO), self._bias_O = wide_weights(conv)
        self.inputs, self.outputs = self._earlier_IO.shape
        self.dtype = self._earlier_IO.dtype

    def products(self, x_TI: Tensor) -> Tensor:
        """Returns what every row of x but the first gives with the one before it."""
        x_TI = x_TI.to(self.dtype)
        return torch.addmm(self._bias_O, x_TI[:-1], self._earlier_IO).addmm_(x_TI[1:], self._later_IO)


class _NativeWide:
    """The same with packed weights."""

    def __init__(self, wide: PackedConvolution) -> None:
        self._wide = wide
        self.inputs, self.outputs = wide.weights.inputs // wide.taps, wide.weights.outputs

    def products(self, x_TI: Tensor) -> Tensor:
        """See `_Wide`."""
        x_TI = x_TI.float().contiguous()
        return self._wide.rows(x_TI[:0], x_TI, 1, len(x_TI))


class _Lowering:
    """A strided convolution: `stride` rows beside each other, and the `stride` before them, give one."""

    def __init__(self, wide: _Wide | _NativeWide, stride: int, padding: int) -> None:
        self._wide, self._stride, self._padding = wide, stride, padding
        self._kept_TI: Tensor | None = None

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        zeros_TI = x_TI.new_zeros(self._padding, x_TI.shape[1])
        rows_TI = torch.cat([zeros_TI if self._kept_TI is None else self._kept_TI, x_TI, *([zeros_TI] if last else [])])
        wide = len(rows_TI) // self._stride
        wide_TI = rows_TI[: wide * self._stride].view(wide, self._wide.inputs)
        self._kept_TI = rows_TI[max(0, wide - 1) * self._stride :].clone()
        return self._wide.products(wide_TI) if wide > 1 else x_TI.new_empty(0, self._wide.outputs)


class _Raising:
    """A transposed convolution: each row, with the one before it, gives `stride` rows beside each other."""

    def __init__(self, wide: _Wide | _NativeWide, stride: int, padding: int) -> None:
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


def wide_weights(conv: nn.Conv1d | nn.ConvTranspose1d) -> tuple[Tensor, Tensor]:
    """Returns a strided convolution with two strides of taps as one of two taps over wider rows: weight and bias.

    To lower the rate, a wide row is `stride` rows beside each other, whose channels are its inputs, and goes with the
    wide row before it. To raise it, a row goes with the one before it, and the outputs are `stride` rows' channels.

    Returns:
        The weight [2, I, O], the earlier row's first, and the bias [O].
    """
    assert conv.bias is not None
    weights, stride = torch.split(conv.weight, conv.stride[0], dim=2), conv.stride[0]
    if not isinstance(conv, nn.ConvTranspose1d):
        return torch.stack([weight_OIK.permute(2, 1, 0).flatten(0, 1) for weight_OIK in weights]), conv.bias
    own_IO, before_IO = (weight_IOK.permute(0, 2, 1).flatten(1, 2) for weight_IOK in weights)
    return torch.stack([before_IO, own_IO]), conv.bias.repeat(stride)


def tap_major(module: nn.Module) -> None:
    """Lays the weights of convolutions out tap by tap, which is how a stream reads them; shapes and values stay."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv1d):
            conv.weight.data = conv.weight.data.permute(2, 0, 1).contiguous().permute(1, 2, 0)
