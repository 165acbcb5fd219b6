"""The factored-attention transformer and its input embeddings (docs/upstream.md, Attention and Priors).

Shape suffixes: B batch, T positions of this call, P all positions, W width, N encoder positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from jukebox_core.families.jukebox.model.attention import make_attention
from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, Fold, attention_types
from jukebox_core.families.jukebox.model.cache import LayerCache, TransformerCache
from jukebox_core.families.jukebox.model.layers import LayerNorm, Projection, quick_gelu

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jukebox_core.families.jukebox.config import TransformerConfig


class FeedForward(nn.Module):
    """Two projections with the quick GELU between them, [B, T, W] to [B, T, W]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.project_in = Projection(width, hidden)
        self.project_out = Projection(hidden, width)

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Returns the update, [B, T, W]."""
        return cast("Tensor", self.project_out(quick_gelu(self.project_in(x_BTW))))

    def after(self, x_BTW: Tensor, update_BTW: Tensor, norm: LayerNorm, scale: float) -> Tensor:
        """Returns the output of a layer, given its input, the output of its attention, and `scale` of what it adds."""
        attended_BTW = x_BTW + update_BTW
        fed_BTW: Tensor = self(norm(attended_BTW))
        if scale == 1:
            return attended_BTW + fed_BTW
        return torch.add(x_BTW, update_BTW + fed_BTW, alpha=scale)


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual connection."""

    def __init__(self, config: TransformerConfig, kind: AttentionType, fold: Fold) -> None:
        super().__init__()
        self.scale = 1 / config.depth if config.residual_scale else 1.0
        self.norm_attention = LayerNorm(config.width)
        self.attention = make_attention(kind, config.width, config.attention_width, config.heads, fold)
        self.norm_feed_forward = LayerNorm(config.width)
        self.feed_forward = FeedForward(config.width, config.mlp_width)
        if kind is AttentionType.CROSS:  # initially the identity (docs/upstream.md, Attention)
            nn.init.zeros_(self.feed_forward.project_out.weight)

    def forward(
        self, x_BTW: Tensor, encoder_BNW: Tensor | None = None, *, record: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Returns x after the block and, if `record`, the attention weights."""
        update_BTW, weights = self.attention(self.norm_attention(x_BTW), encoder_BNW, record=record)
        return self.add(x_BTW, update_BTW), weights

    def extend(self, x_BTW: Tensor, cache: LayerCache, position: int) -> Tensor:
        """Returns x after the block, for the T positions from `position` on."""
        return self.add(x_BTW, self.attention.extend(self.norm_attention(x_BTW), cache, position))

    def add(self, x_BTW: Tensor, update_BTW: Tensor) -> Tensor:
        """Returns x after the block, given the output of its attention."""
        return self.feed_forward.after(x_BTW, update_BTW, self.norm_feed_forward, self.scale)


class Transformer(nn.Module):
    """A stack of blocks, [B, T, W] to [B, T, W], without a norm at its end.

    It computes in the dtype of its input; weights of another dtype are converted at each use.

    Args:
        config: Sizes.
        positions: Length of a whole sequence.
        prime: Leading positions that hold the prime, for layers of type 7.
    """

    def __init__(self, config: TransformerConfig, positions: int, prime: int = 0) -> None:
        super().__init__()
        fold = Fold(positions, config.blocks or 1, prime, config.spread)
        kinds = attention_types(config.attention_order, config.depth)
        self.blocks = nn.ModuleList(Block(config, kind, fold) for kind in kinds)

    def forward(
        self, x_BTW: Tensor, encoder_BNW: Tensor | None = None, *, record: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Returns the output for a whole sequence, and the attention weights of the layers in `record`.

        Args:
            x_BTW: T is a multiple of the row length.
            encoder_BNW: The encoder's output, which layers of type 6 attend to.
            record: Layers, counted from 0, whose attention weights are returned; see `Attention.forward`.
        """
        recorded = {}
        for layer, block in enumerate(self.typed_blocks):
            x_BTW, weights = block(x_BTW, encoder_BNW, record=layer in record)
            if weights is not None:
                recorded[layer] = weights
        return x_BTW, recorded

    def new_cache(
        self, batch: int, *, dtype: torch.dtype, device: torch.device, encoder_BNW: Tensor | None = None
    ) -> TransformerCache:
        """Returns the KV cache of one window for `batch` sequences, with the keys and values of the encoder.

        Raises:
            ConfigError: The attention order has summary layers, which cannot sample.
        """
        layers = [block.attention.new_cache(batch, dtype, device, encoder_BNW) for block in self.typed_blocks]
        return TransformerCache(layers)

    def extend(self, x_BTW: Tensor, cache: TransformerCache) -> Tensor:
        """Returns the output for the next T positions, any number of them; one is a decode step."""
        position = cache.position
        for block, layer in zip(self.typed_blocks, cache.layers, strict=True):
            x_BTW = block.extend(x_BTW, layer, position)
        cache.position = position + x_BTW.shape[1]
        return x_BTW

    @property
    def typed_blocks(self) -> Sequence[Block]:
        """The blocks, from the first to the last."""
        return cast("Sequence[Block]", self.blocks)


class TokenTransformer(nn.Module):
    """Token and position embeddings with a transformer over them (docs/upstream.md, Priors).

    The input of position i is token i - 1, and that of position 0 a start vector given by the caller. Embeddings are
    summed in float32, the transformer computes in `dtype`, and the output is float32.
    """

    def __init__(self, config: TransformerConfig, *, vocabulary: int, positions: int, prime: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.position_PW = nn.Parameter(torch.empty(positions, config.width))
        self.transformer = Transformer(config, positions, prime)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.position_PW, std=0.01)

    def forward(
        self,
        tokens_BT: Tensor,
        start_B1W: Tensor,
        condition_BTW: Tensor | None = None,
        encoder_BNW: Tensor | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        record: Collection[int] = (),
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Returns features [B, T, W] that predict each of the tokens, and the attention weights of `record`.

        Args:
            tokens_BT: A whole sequence.
            start_B1W: The input of position 0.
            condition_BTW: Added at every position, if given.
            encoder_BNW: The encoder's output, which layers of type 6 attend to.
            dtype: Dtype that the transformer computes in.
            record: Layers whose attention weights are returned.
        """
        x_BTW = torch.cat([start_B1W, self.embedding(tokens_BT[:, :-1])], dim=1)
        x_BTW = x_BTW + self.position_PW[: x_BTW.shape[1]]
        if condition_BTW is not None:
            x_BTW = x_BTW + condition_BTW
        out_BTW, recorded = self.transformer(x_BTW.to(dtype), encoder_BNW, record=record)
        return out_BTW.float(), recorded
