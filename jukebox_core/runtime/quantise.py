"""Weight-only int8 quantisation: symmetric, with a scale for each output channel.

Shape suffixes: B batch, T positions, I inputs and O outputs of a projection.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn

INT8_MAX = 127


@torch.no_grad()
def quantise_per_channel(weight_IO: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a weight as int8 [I, O] and float32 scales [O]; the weight is about ``int8 * scale``.

    The largest weight of an output becomes 127 or -127, and every other one is rounded to nearest. For a weight on the
    meta device only shapes are returned: torch would import sympy for the arithmetic there.
    """
    if weight_IO.is_meta:
        return weight_IO.new_empty(weight_IO.shape, dtype=torch.int8), weight_IO.new_empty(weight_IO.shape[1:])
    scale_O = weight_IO.float().abs().amax(0).clamp_min(torch.finfo(torch.float32).tiny) / INT8_MAX
    return (weight_IO / scale_O).round_().to(torch.int8), scale_O


class Int8Projection(nn.Module):
    """An affine map with an int8 weight, which is converted to the dtype of its input at each use.

    The reference for `runtime.native`, whose kernels multiply int8 operands.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, weight_IO: Tensor, bias_O: Tensor) -> None:
        super().__init__()
        weight_IO, scale_O = quantise_per_channel(weight_IO)
        self.register_buffer("weight", weight_IO)
        self.register_buffer("scale", scale_O)
        self.register_buffer("bias", bias_O.detach().clone())

    def forward(self, x_BTI: Tensor) -> Tensor:
        """Returns [B, T, outputs] in the dtype of x."""
        dtype = x_BTI.dtype
        sums_BTO = F.linear(x_BTI, self.weight.t().to(dtype))  # integers up to 127 are exact in every dtype
        return (sums_BTO * self.scale + self.bias).to(dtype)
