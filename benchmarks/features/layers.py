"""The peer of features: how jukemirlib takes a layer, written from its description (docs/features.md) in plain torch.

A prior's blocks run one after the other, each as it samples: queries, keys and values of the whole window, keys and
values appended to a cache, attention by the layer's kind over the cached keys, and the feed-forward part; in float32.
The cache of a block is dropped after it. Conditioning is given, and costs the peer nothing.

Shape suffixes: B batch, T positions, W width, H heads, D head width, R rows, C columns.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, attention_types

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from jukebox_core.families.jukebox.config import PriorConfig


class _Affine(nn.Module):
    """``bias + x @ weight``, the weight [inputs, outputs]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(inputs, outputs)), nn.Parameter(torch.empty(outputs))

    def forward(self, x_BTI: Tensor) -> Tensor:
        """Returns [B, T, outputs]."""
        return torch.addmm(self.bias, x_BTI.flatten(0, 1), self.weight).view(*x_BTI.shape[:2], -1)


class _Block(nn.Module):
    """One layer: attention and feed-forward, each with its norm and residual update."""

    def __init__(self, config: PriorConfig, kind: AttentionType) -> None:
        super().__init__()
        sizes = config.transformer
        self.kind, self.heads, self.columns = kind, sizes.heads, config.context // cast("int", sizes.blocks)
        self.norm_1, self.norm_2 = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        self.qkv = _Affine(sizes.width, 3 * sizes.attention_width)
        self.merge = _Affine(sizes.attention_width, sizes.width)
        self.feed_in, self.feed_out = _Affine(sizes.width, sizes.mlp_width), _Affine(sizes.mlp_width, sizes.width)
        self.cache: tuple[Tensor, Tensor] | None = None

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Returns x after the layer; keys and values stay in `cache`."""
        q_BTA, k_BTA, v_BTA = self.qkv(self.norm_1(x_BTW)).chunk(3, dim=2)
        if self.cache is not None:
            k_BTA, v_BTA = torch.cat([self.cache[0], k_BTA], dim=1), torch.cat([self.cache[1], v_BTA], dim=1)
        self.cache = (k_BTA, v_BTA)
        attended_BTW: Tensor = self.merge(self._attention(q_BTA, k_BTA, v_BTA))
        hidden_BTM = self.feed_in(self.norm_2(x_BTW + attended_BTW))
        fed_BTW: Tensor = self.feed_out(hidden_BTM * torch.sigmoid(1.702 * hidden_BTM))
        return x_BTW + attended_BTW + fed_BTW

    def _attention(self, q_BTA: Tensor, k_BTA: Tensor, v_BTA: Tensor) -> Tensor:
        batch, length, inner = q_BTA.shape
        rows = length // self.columns

        def fold(x_BTA: Tensor) -> Tensor:
            x_BRCA = x_BTA.reshape(batch, rows, self.columns, inner)
            if self.kind is AttentionType.COLUMN:
                x_BRCA = x_BRCA.transpose(1, 2)
            return x_BRCA.reshape(-1, x_BRCA.shape[2], inner)

        if self.kind is AttentionType.PREVIOUS_BLOCK:
            k_BTA, v_BTA = (nn.functional.pad(x[:, : -self.columns], (0, 0, self.columns, 0)) for x in (k_BTA, v_BTA))
        out_FTA = self._dense(fold(q_BTA), fold(k_BTA), fold(v_BTA))
        if self.kind is AttentionType.COLUMN:
            return out_FTA.reshape(batch, self.columns, rows, inner).transpose(1, 2).reshape(batch, length, inner)
        return out_FTA.reshape(batch, length, inner)

    def _dense(self, q_FTA: Tensor, k_FSA: Tensor, v_FSA: Tensor) -> Tensor:
        folds, length, inner = q_FTA.shape
        q, k, v = (x.view(folds, length, self.heads, -1).transpose(1, 2) for x in (q_FTA, k_FSA, v_FSA))
        scale = 1 / math.sqrt(math.sqrt(inner // self.heads))
        weights = (q * scale) @ (k * scale).transpose(2, 3)
        if self.kind is not AttentionType.PREVIOUS_BLOCK:
            mask = torch.ones(length, length).tril()
            weights = weights * mask - 1e9 * (1 - mask)
        return (weights.softmax(-1) @ v).transpose(1, 2).reshape(folds, length, inner)


class Layers(nn.Module):
    """The first layers of a prior without lyrics whose attention is factored.

    Args:
        config: Sizes.
        depth: Layers.
        bins: Codes are in [0, bins).
    """

    def __init__(self, config: PriorConfig, depth: int, bins: int) -> None:
        super().__init__()
        kinds = attention_types(config.transformer.attention_order, config.transformer.depth)[:depth]
        self.embedding = nn.Embedding(bins, config.transformer.width)
        self.position_TW = nn.Parameter(torch.empty(config.context, config.transformer.width))
        self.blocks = nn.ModuleList(_Block(config, kind) for kind in kinds)

    @torch.no_grad()
    def forward(
        self, codes_BT: Tensor, start_B1W: Tensor, signal_BTW: Tensor, layers: Collection[int]
    ) -> Iterator[tuple[int, Tensor]]:
        """Yields number and activations [B, T, W] of `layers`, counted from 1."""
        x_BTW = torch.cat([start_B1W, self.embedding(codes_BT[:, :-1])], dim=1) + self.position_TW + signal_BTW
        for layer, block in enumerate(cast("list[_Block]", self.blocks), 1):
            x_BTW = block(x_BTW)
            block.cache = None
            if layer in layers:
                yield layer, x_BTW

    def copy_from(self, ours: nn.Module) -> None:
        """Takes over the weights of a `Prior`."""
        state = ours.state_dict()
        names: dict[str, Callable[[int], str]] = {
            "norm_1": lambda n: f"{n}.norm_attention", "norm_2": lambda n: f"{n}.norm_feed_forward",
            "qkv": lambda n: f"{n}.attention.project_in", "merge": lambda n: f"{n}.attention.project_out",
            "feed_in": lambda n: f"{n}.feed_forward.project_in", "feed_out": lambda n: f"{n}.feed_forward.project_out",
        }  # fmt: skip
        found = {"embedding.weight": state["body.embedding.weight"], "position_TW": state["body.position_PW"]}
        for number in range(len(self.blocks)):
            for name, of in names.items():
                for kind in ("weight", "bias"):
                    found[f"blocks.{number}.{name}.{kind}"] = state[f"body.transformer.blocks.{of(number)}.{kind}"]
        self.load_state_dict(found)
