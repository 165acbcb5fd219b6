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

from jukebox_core.families.jukebox.convnet import Downsampler, ResidualBlock, ResidualStack, Upsampler
from jukebox_core.runtime.native.convolution import PackedResidual

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
    elif isinstance(module, PackedResidual):
        yield _NativeResidual(module)
    elif isinstance(module, nn.ConvTranspose1d):
        yield _Raising(module)
    elif isinstance(module, nn.Conv1d):
        yield _Lowering(module) if module.stride[0] > 1 else _Taps(module)
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

    def feed(self, x_TI: Tensor, *, last: bool) -> tuple[Tensor, int, int]:
        """Returns the rows there are, and from which to which an output can be given now."""
        kept_TI, first, stop = self.keep(x_TI, last=last)
        return torch.cat([kept_TI, x_TI]), first, stop

    def keep(self, x_TI: Tensor, *, last: bool) -> tuple[Tensor, int, int]:
        """Returns the rows kept until now, and from which to which of them and of x an output can be given."""
        kept_TI = x_TI[:0] if self._kept_TI is None else self._kept_TI
        first = self._answered
        stop = max(first, len(kept_TI) + len(x_TI) - (0 if last else self._reach))
        forgotten = max(0, stop - self._reach)
        self._kept_TI = torch.cat([kept_TI[forgotten:], x_TI[max(0, forgotten - len(kept_TI)) :]])
        self._answered = stop - forgotten
        return kept_TI, first, stop


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


class _NativeResidual:
    """A residual block with packed weights, which reads rows where they lie."""

    def __init__(self, block: PackedResidual) -> None:
        self._block = block
        self._rows = _Rows(block.dilation)

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        x_TI = x_TI.float().contiguous()
        kept_TI, first, stop = self._rows.keep(x_TI, last=last)
        return self._block.rows(kept_TI, x_TI, first, stop)


class _Lowering:
    """A strided convolution with two strides of taps: `stride` rows side by side are one, of two taps."""

    def __init__(self, conv: nn.Conv1d) -> None:
        self._stride = conv.stride[0]
        earlier_OIK, later_OIK = torch.split(conv.weight, self._stride, dim=2)
        self._earlier_IO = earlier_OIK.permute(2, 1, 0).flatten(0, 1)  # "I" is all channels of a stride of rows
        self._later_IO = later_OIK.permute(2, 1, 0).flatten(0, 1)
        self._bias_O = cast("Tensor", conv.bias)
        self._padding = conv.padding[0] if isinstance(conv.padding, tuple) else 0
        self._kept_TI: Tensor | None = None

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        zeros_TI = x_TI.new_zeros(self._padding, x_TI.shape[1])
        rows_TI = torch.cat([zeros_TI if self._kept_TI is None else self._kept_TI, x_TI, *([zeros_TI] if last else [])])
        wide = len(rows_TI) // self._stride
        wide_TI = rows_TI[: wide * self._stride].view(wide, self._stride * rows_TI.shape[1])
        outputs = max(0, wide - 1)
        self._kept_TI = rows_TI[outputs * self._stride :].clone()
        y_TO = torch.addmm(self._bias_O, wide_TI[:outputs], self._earlier_IO)
        return y_TO.addmm_(wide_TI[1:], self._later_IO) if outputs else y_TO


class _Raising:
    """A transposed convolution with two strides of taps: each row and the one before it give `stride` rows."""

    def __init__(self, conv: nn.ConvTranspose1d) -> None:
        self._stride = conv.stride[0]
        own_IOK, before_IOK = torch.split(conv.weight, self._stride, dim=2)
        self._own_IO = own_IOK.permute(0, 2, 1).flatten(1, 2)  # "O" is all channels of a stride of rows
        self._before_IO = before_IOK.permute(0, 2, 1).flatten(1, 2)
        self._bias_O = cast("Tensor", conv.bias).repeat(self._stride)
        self._padding = int(conv.padding[0])
        self._before_1I: Tensor | None = None

    def feed(self, x_TI: Tensor, *, last: bool) -> Tensor:
        """See `Layer`."""
        x_TI = x_TI.to(self._own_IO.dtype)
        begins, outputs = self._before_1I is None, self._own_IO.shape[1] // self._stride
        if not len(x_TI) and not last:
            return x_TI.new_empty(0, outputs)
        zero_1I = x_TI.new_zeros(1, x_TI.shape[1])
        before_1I = zero_1I if self._before_1I is None else self._before_1I
        rows_TI = torch.cat([before_1I, x_TI, *([zero_1I] if last else [])])
        self._before_1I = rows_TI[-1:].clone()
        y_TO = torch.addmm(self._bias_O, rows_TI[1:], self._own_IO).addmm_(rows_TI[:-1], self._before_IO)
        y_TO = y_TO.view(-1, outputs)
        return y_TO[self._padding if begins else 0 : len(y_TO) - (self._padding if last else 0)]


def tap_major(module: nn.Module) -> None:
    """Lays the weights of convolutions out tap by tap, which is how a stream reads them; shapes and values stay."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv1d):
            conv.weight.data = conv.weight.data.permute(2, 0, 1).contiguous().permute(1, 2, 0)
