"""The original way to vary, in plain torch: upstream's order of operations, with the same weights.

Attention writes out its scores, adds the bias of positions, and takes the softmax; norms and the gated GELU are written
out as well; logits of all codebooks are computed at every place. The grid is filled as in parity: the coarse-to-fine
transformer gets chunks that are padded to their whole length, and generates the padding too.

Legend as in `transformer`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from jukebox_core.families.vampnet.model.transformer import VampTransformer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from jukebox_core.families.vampnet.model.transformer import Attention, FeedForward


class Original(VampTransformer):
    """A transformer that computes in the original way; it shares the weights of the one that it is made from."""

    def __init__(self, model: VampTransformer) -> None:
        """Shares the weights of `model`, which must be in float32."""
        torch.nn.Module.__init__(self)
        self.config, self.codebooks_KVD = model.config, model.codebooks_KVD
        self.embedding, self.layers, self.positions = model.embedding, model.layers, model.positions
        self.norm, self.classifier = model.norm, model.classifier

    def forward(self, codes_BKT: Tensor) -> Tensor:
        """Returns logits [B, T P, V], as the transformer does."""
        x_BTW = self.embedding(codes_BKT, self.codebooks_KVD).mT
        bias_1HTT = self.bias(codes_BKT.shape[-1])
        for layer in self.layers:
            x_BTW = x_BTW + _attention(layer.attention, _norm(layer.norm_1, x_BTW), bias_1HTT)  # type: ignore[arg-type]
            x_BTW = x_BTW + _feed_forward(layer.feed_forward, _norm(layer.norm_3, x_BTW))  # type: ignore[arg-type]
        channels_BCT: Tensor = self.classifier(_norm(self.norm, x_BTW).mT)
        grid_BVPT = channels_BCT.view(len(codes_BKT), -1, self.config.n_predicted, codes_BKT.shape[-1])
        return grid_BVPT.permute(0, 3, 2, 1).flatten(1, 2)


def _norm(norm: nn.Module, x: Tensor) -> Tensor:
    weight: Tensor = norm.weight  # type: ignore[assignment]
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def _attention(attention: Attention, x: Tensor, bias_1HTT: Tensor) -> Tensor:
    def heads(each: Tensor) -> Tensor:
        return each.view(*each.shape[:2], attention.heads, -1).permute(2, 0, 1, 3)

    q, k, v = heads(attention.w_qs(x)), heads(attention.w_ks(x)), heads(attention.w_vs(x))
    scores = torch.einsum("hblk,hbtk->hblt", [q, k]) / math.sqrt(q.shape[-1]) + bias_1HTT.transpose(0, 1)
    mixed = torch.einsum("hblt,hbtv->hblv", [scores.softmax(3), v])
    out: Tensor = attention.fc(mixed.permute(1, 2, 0, 3).flatten(2))
    return out


def _feed_forward(feed_forward: FeedForward, x: Tensor) -> Tensor:
    value, gate = feed_forward.w_1(x).chunk(2, dim=-1)
    gelu = 0.5 * gate * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (gate + 0.044715 * torch.pow(gate, 3.0))))
    out: Tensor = feed_forward.w_2(value * gelu)
    return out
