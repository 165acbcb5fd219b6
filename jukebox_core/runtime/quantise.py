"""Weights as whole numbers of 8 bits, with a scale for each output.

Shape suffixes: B batch, T positions, I inputs and O outputs of a projection.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn

LARGEST = 127


@torch.no_grad()
def quantise(weight_IO: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a weight as int8 [I, O] and the float32 scale [O] that each output's numbers are to be multiplied with.

    The largest weight of an output becomes 127 or -127, and every other one the nearest whole number. Of a weight on
    the meta device come shapes, without the arithmetic, for which torch would import sympy there.
    """
    if weight_IO.is_meta:
        return weight_IO.new_empty(weight_IO.shape, dtype=torch.int8), weight_IO.new_empty(weight_IO.shape[1:])
    scale_O = weight_IO.float().abs().amax(0).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
    return (weight_IO / scale_O).round_().to(torch.int8), scale_O


class Int8Projection(nn.Module):
    """An affine map whose weight is stored in 8 bits and widened to the precision of its input whenever it is used.

    It is the plain way; `runtime.native` multiplies the whole numbers themselves.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, weight_IO: Tensor, bias_O: Tensor) -> None:
        super().__init__()
        weight_IO, scale_O = quantise(weight_IO)
        self.register_buffer("weight", weight_IO)
        self.register_buffer("scale", scale_O)
        self.register_buffer("bias", bias_O.detach().clone())

    def forward(self, x_BTI: Tensor) -> Tensor:
        """Returns [B, T, outputs] in the dtype of x."""
        dtype = x_BTI.dtype
        sums_BTO = F.linear(x_BTI, self.weight.t().to(dtype))  # whole numbers up to 127 are exact in every precision
        return (sums_BTO * self.scale + self.bias).to(dtype)
