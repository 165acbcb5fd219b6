"""Convolutions with weight normalisation, and the snake activation. Legend: B batch, C channels, T time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_EPSILON = 1e-9


def normalised(weight_v: Tensor, weight_g: Tensor) -> Tensor:
    """Returns the weight whose direction is `weight_v` and whose norm, over all dimensions but the first, `weight_g`.

    For transposed convolutions the first dimension is that of the input channels.
    """
    norm = weight_v.square().sum(tuple(range(1, weight_v.ndim)), keepdim=True).sqrt()
    return weight_v * (weight_g / norm)


class WNConv1d(nn.Module):
    """A convolution with weight normalisation and bias."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight_g = nn.Parameter(torch.ones(outputs, 1, 1))
        self.weight_v = nn.Parameter(torch.empty(outputs, inputs, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight_v, std=0.02)

    @property
    def weight(self) -> Tensor:
        """The weight that its direction and gain make, [C', C, kernel]."""
        return normalised(self.weight_v, self.weight_g)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Returns [B, C', T']."""
        return functional.conv1d(x_BCT, self.weight, self.bias, self.stride, self.padding, self.dilation)


class WNConvTranspose1d(nn.Module):
    """A transposed convolution that multiplies the length by `stride` (one more sample where that is odd)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight_g = nn.Parameter(torch.ones(inputs, 1, 1))
        self.weight_v = nn.Parameter(torch.empty(inputs, outputs, 2 * stride))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight_v, std=0.02)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Returns [B, C', T']."""
        weight = normalised(self.weight_v, self.weight_g)
        return functional.conv_transpose1d(x_BCT, weight, self.bias, self.stride, self.stride // 2)


class Snake(nn.Module):
    """A periodic activation with a learned frequency for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Returns x + sin(alpha x)^2 / alpha."""
        return x_BCT + torch.sin(self.alpha * x_BCT).square() / (self.alpha + _EPSILON)


class Residual(nn.Module):
    """x + conv(snake(dilated conv(snake(x)))): both of one width in the decoder, the second of 1 in the encoder."""

    def __init__(self, channels: int, kernel: int, dilation: int, second: int) -> None:
        super().__init__()
        self.snake_1 = Snake(channels)
        self.conv_1 = WNConv1d(channels, channels, kernel, padding=(kernel - 1) * dilation // 2, dilation=dilation)
        self.snake_2 = Snake(channels)
        self.conv_2 = WNConv1d(channels, channels, second, padding=(second - 1) // 2)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Returns [B, C, T]."""
        return x_BCT + self.conv_2(self.snake_2(self.conv_1(self.snake_1(x_BCT))))  # type: ignore[no-any-return]


@torch.no_grad()
def fold_norms(model: nn.Module) -> None:
    """Replaces the convolutions with weight normalisation in a model by plain ones that compute the same."""
    for parent in list(model.modules()):
        for name, each in list(parent.named_children()):
            if isinstance(each, WNConv1d | WNConvTranspose1d):
                setattr(parent, name, _plain(each))


def _plain(conv: WNConv1d | WNConvTranspose1d) -> nn.Module:
    weight = normalised(conv.weight_v, conv.weight_g)
    first, second, kernel = weight.shape
    plain: nn.Conv1d | nn.ConvTranspose1d
    if isinstance(conv, WNConv1d):
        plain = nn.Conv1d(
            second, first, kernel, conv.stride, conv.padding, conv.dilation, device="meta", dtype=weight.dtype
        )
    else:
        plain = nn.ConvTranspose1d(
            first, second, kernel, conv.stride, conv.stride // 2, device="meta", dtype=weight.dtype
        )
    plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), conv.bias
    return plain
