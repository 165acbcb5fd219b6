"""Decode steps with static shapes: the position is a tensor, so every step is the same operations on the same shapes.

torch.compile and CUDA graphs need that, and no step synchronises with the device. The KV caches are those of the plain
steps (`attention`), which remain the oracle; where those slice a cache, these mask all of it.

Shape suffixes: B batch, S key positions, W width, H heads, D head width, R rows, C columns, 1 the position of the
step, 2 keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn

from jukebox_core.families.jukebox.model.attention import (
    ColumnAttention,
    CrossAttention,
    PrefixAttention,
    RowAttention,
    SelfAttention,
)
from jukebox_core.families.jukebox.model.cache import TransformerCache
from jukebox_core.families.jukebox.model.transformer import Transformer

if TYPE_CHECKING:
    from collections.abc import Callable

    from jukebox_core.families.jukebox.model.attention import Attention
    from jukebox_core.families.jukebox.model.cache import LayerCache
    from jukebox_core.families.jukebox.model.transformer import Block

    BlockStep = Callable[[Block, Tensor, Tensor, Tensor], Tensor]
    Step = Callable[[Tensor, Tensor], Tensor]


def block_step(block: Block, x_B1W: Tensor, kv: Tensor, at_1: Tensor) -> Tensor:
    """Returns x [B, 1, W] after a block at position `at_1`, int64 [1]; updates `kv`, the layer's cache, in place."""
    return block.add(x_B1W, _attend(block.attention, block.norm_attention(x_B1W), kv, at_1))


def _attend(attention: Attention, x_B1W: Tensor, kv: Tensor, at_1: Tensor) -> Tensor:
    if isinstance(attention, CrossAttention):
        return attention.extend_over(x_B1W, kv[0], kv[1])
    assert isinstance(attention, SelfAttention)
    q_BH1D, kv_2BH1D = attention.split(x_B1W)
    row_1, column_1 = at_1 // attention.fold.columns, at_1 % attention.fold.columns
    match attention:
        case PrefixAttention():
            place_1 = at_1.clamp(max=attention.keys - 1)  # beyond the cached positions the last one is rewritten
            cached = torch.where(at_1 < attention.keys, kv_2BH1D, kv.index_select(3, place_1))
            kv.index_copy_(3, place_1, cached)
            mask_S = torch.arange(attention.keys, device=kv.device) <= at_1
        case RowAttention():
            columns, rows = attention.fold.columns, attention.lag + 1
            kv.index_copy_(3, row_1 % rows * columns + column_1, kv_2BH1D)
            place_S = torch.arange(rows * columns, device=kv.device)
            mask_S = place_S // columns != row_1 % rows if attention.lag else place_S <= column_1
        case ColumnAttention():
            # Advanced indices that are not adjacent move their dimension to the front, hence the order of the values.
            kv[:, column_1, :, :, row_1] = kv_2BH1D.permute(3, 0, 1, 2, 4)
            kv = kv.index_select(1, column_1).squeeze(1)
            mask_S = torch.arange(attention.fold.rows, device=kv.device) <= row_1
        case _:
            raise AssertionError(f"{type(attention).__name__} has a cache but no step")
    return attention.merge(F.scaled_dot_product_attention(q_BH1D, kv[0], kv[1], attn_mask=mask_S[None]))


@dataclass(slots=True)
class StaticCache(TransformerCache):
    """The KV caches of a window, its step, and the position of the step as a tensor."""

    step: Step | None = None
    at_1: Tensor | None = None


class StaticTransformer(Transformer):
    """A transformer whose decode steps have static shapes.

    Args:
        plain: The transformer whose blocks it uses.
        wrap_block: Wraps `block_step`, e.g. `torch.compile`; by default nothing.
        wrap_step: Wraps a window's step through all layers, e.g. `GraphedStep`; by default nothing.
    """

    def __init__(
        self,
        plain: Transformer,
        wrap_block: Callable[[BlockStep], BlockStep] = lambda step: step,
        wrap_step: Callable[[Step], Step] = lambda step: step,
    ) -> None:
        nn.Module.__init__(self)
        self.blocks = plain.blocks
        self._block_step, self._wrap_step = wrap_block(block_step), wrap_step

    def new_cache(
        self, batch: int, *, dtype: torch.dtype, device: torch.device, encoder_BNW: Tensor | None = None
    ) -> StaticCache:
        """Returns the KV cache of one window; see `Transformer.new_cache`."""
        layers = super().new_cache(batch, dtype=dtype, device=device, encoder_BNW=encoder_BNW).layers
        step = self._wrap_step(lambda x_B1W, at_1: self._all_layers(layers, x_B1W, at_1))
        return StaticCache(layers, step=step, at_1=torch.zeros(1, dtype=torch.int64, device=device))

    def extend(self, x_BTW: Tensor, cache: TransformerCache) -> Tensor:
        """Returns the output for the next T positions; a single position is a decode step."""
        if x_BTW.shape[1] > 1 or not isinstance(cache, StaticCache) or cache.step is None:
            return super().extend(x_BTW, cache)
        at_1 = cast("Tensor", cache.at_1).fill_(cache.position)
        out_B1W = cache.step(x_BTW, at_1)
        cache.position += 1
        return out_B1W

    def _all_layers(self, layers: list[LayerCache], x_B1W: Tensor, at_1: Tensor) -> Tensor:
        for block, layer in zip(self.typed_blocks, layers, strict=True):
            x_B1W = self._block_step(block, x_B1W, layer.kv, at_1)
        return x_B1W
