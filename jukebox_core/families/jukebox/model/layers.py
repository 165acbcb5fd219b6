"""The small layers of transformers and conditioners (docs/upstream.md, Layers).

Shape suffixes: B batch, T positions, I inputs and O outputs of a projection, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn


class Projection(nn.Module):
    """An affine map ``x @ weight + bias`` with the weight stored [inputs, outputs], as in upstream's files.

    The weight may be stored in another dtype than that of x: it is converted in `forward`.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def forward(self, x_BTI: Tensor) -> Tensor:
        """Returns [B, T, outputs] in the dtype of x."""
        dtype = x_BTI.dtype
        weight_IO: Tensor = self.weight
        bias_O: Tensor = self.bias
        if weight_IO.dtype is not dtype or bias_O.dtype is not dtype:  # a no-op `to` costs time
            weight_IO, bias_O = weight_IO.to(dtype), bias_O.to(dtype)
        return F.linear(x_BTI, weight_IO.t(), bias_O)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation that is computed in float32 whatever the dtype of its input, and returned in that dtype."""

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Returns [B, T, W] in the dtype of x."""
        return super().forward(x_BTW.float()).to(x_BTW.dtype)


def quick_gelu(x: Tensor) -> Tensor:
    """Returns ``x * sigmoid(1.702 x)``, of the shape of x."""
    return x * torch.sigmoid(1.702 * x)
