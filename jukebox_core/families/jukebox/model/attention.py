"""The eight types of attention layer (docs/upstream.md, Attention), each with two forward passes.

`forward` attends over a whole sequence, folded into rows: differentiable, for training, and the oracle of `extend`.
`extend` is incremental: it attends from the next T positions to a KV cache, for prefill and autoregressive decoding.

A sequence is folded into R rows (upstream: blocks) of C columns, row by row. Shape suffixes: B batch, T positions of
this call, S key positions, W width, H heads, D head width, R rows, C columns, N encoder or earlier positions, P all
positions, 2 keys and values, F folded batch (rows or columns times B).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, Fold
from jukebox_core.families.jukebox.model.cache import LayerCache
from jukebox_core.families.jukebox.model.layers import Projection

FEW_KEYS = 128  # up to which products of matrices are faster


def attend(
    q_BHTD: Tensor,
    k_BHSD: Tensor,
    v_BHSD: Tensor,
    *,
    mask_TS: Tensor | None = None,
    causal: bool = False,
    record: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Returns scaled dot-product attention [B, H, T, D] and, if `record`, its float32 weights [B, H, T, S].

    `mask_TS` is true where a query may attend to a key. `causal` applies the square triangular mask.
    """
    if not record and not _learns_slowly(q_BHTD, k_BHSD):
        return F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, attn_mask=mask_TS, is_causal=causal), None
    scores_BHTS = (q_BHTD @ k_BHSD.mT).float() / math.sqrt(q_BHTD.shape[-1])
    if causal:
        mask_TS = torch.ones_like(scores_BHTS[0, 0], dtype=torch.bool).tril()
    if mask_TS is not None:
        scores_BHTS = scores_BHTS.masked_fill(~mask_TS, -torch.inf)
    weights_BHTS = scores_BHTS.softmax(-1)
    return weights_BHTS.to(v_BHSD.dtype) @ v_BHSD, weights_BHTS if record else None


def _learns_slowly(q_BHTD: Tensor, k_BHSD: Tensor) -> bool:
    """Returns whether torch's attention is slow: it takes gradients of few bfloat16 keys on a CPU 5 times as long."""
    few = k_BHSD.shape[2] <= FEW_KEYS and q_BHTD.dtype is torch.bfloat16 and q_BHTD.device.type == "cpu"
    return few and torch.is_grad_enabled() and q_BHTD.requires_grad


def causal_mask(queries: int, keys: int, first: int, device: torch.device) -> Tensor:
    """Returns [T, S], true where query ``first + t`` comes no earlier than key s."""
    return torch.arange(keys, device=device) <= torch.arange(first, first + queries, device=device)[:, None]


class Attention(nn.Module):
    """Base class of all layer types: heads, the output projection, and the two forward passes."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_out = Projection(inner, width)

    @abstractmethod
    def forward(
        self, x_BTW: Tensor, encoder_BNW: Tensor | None = None, *, record: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the layer's output [B, T, W] for a whole sequence and, if `record`, its attention weights.

        T is a multiple of the row length. Weights are float32 [F, H, queries, keys], folded as the layer type folds.
        """

    @abstractmethod
    def extend(self, x_BTW: Tensor, cache: LayerCache, position: int) -> Tensor:
        """Returns the output [B, T, W] for the T positions from `position` on, and writes them into `cache`."""

    @abstractmethod
    def new_cache(
        self, batch: int, dtype: torch.dtype, device: torch.device, encoder_BNW: Tensor | None = None
    ) -> LayerCache:
        """Returns an empty cache for `batch` sequences; for CROSS, one that holds the keys and values of the encoder.

        Raises:
            ConfigError: A summary layer, which cannot sample; or CROSS without `encoder_BNW`.
        """

    def merge(self, out_BHTD: Tensor) -> Tensor:
        """Returns the heads' outputs concatenated and projected, [B, T, W]."""
        return cast("Tensor", self.project_out(out_BHTD.transpose(1, 2).flatten(2)))


class SelfAttention(Attention):
    """Queries, keys and values come from one sequence. A subclass defines which keys a query attends to."""

    def __init__(self, width: int, inner: int, heads: int, fold: Fold) -> None:
        super().__init__(width, inner, heads)
        self.fold = fold
        self.head_width = inner // heads
        self.project_in = Projection(width, 3 * inner)

    def forward(
        self,
        x_BTW: Tensor,
        encoder_BNW: Tensor | None = None,  # noqa: ARG002 - one signature for all types
        *,
        record: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the output [B, T, W] and, if `record`, the weights; see `Attention.forward`."""
        q_BHTD, kv_2BHTD = self.split(x_BTW)
        out_BHTD, weights = self._whole(q_BHTD, kv_2BHTD, record)
        return self.merge(out_BHTD), weights

    def after(self, x_BTW: Tensor, before_2BHND: Tensor, *, record: bool = False) -> tuple[Tensor, Tensor | None]:
        """Returns the last T positions of what `forward` gives for a whole sequence, [B, T, W], and its weights.

        Args:
            x_BTW: the input at these positions.
            before_2BHND: keys and values of the N positions before them; B is 1 if all sequences share them.
            record: also return the weights, of the N positions too, where they mean nothing.
        """
        q_BHTD, kv_2BHTD = self.split(x_BTW)
        before = before_2BHND.shape[3]
        kv_2BHPD = torch.cat([before_2BHND.expand(-1, x_BTW.shape[0], -1, -1, -1), kv_2BHTD], dim=3)
        out_BHPD, weights = self._whole(F.pad(q_BHTD, (0, 0, before, 0)), kv_2BHPD, record)
        return self.merge(out_BHPD[:, :, before:]), weights

    def extend(self, x_BTW: Tensor, cache: LayerCache, position: int) -> Tensor:
        """Returns the output [B, T, W] for the next positions; see `Attention.extend`."""
        q_BHTD, kv_2BHTD = self.split(x_BTW)
        if x_BTW.shape[1] == 1:
            return self.merge(self._step(q_BHTD, kv_2BHTD, cache, position))
        return self.merge(self._chunk(q_BHTD, kv_2BHTD, cache, position))

    def new_cache(
        self,
        batch: int,
        dtype: torch.dtype,
        device: torch.device,
        encoder_BNW: Tensor | None = None,  # noqa: ARG002 - one signature for all types
    ) -> LayerCache:
        """Returns an empty cache for `batch` sequences; see `Attention.new_cache`."""
        return LayerCache.zeros(*self._cache_shape(batch), dtype=dtype, device=device)

    @abstractmethod
    def _cache_shape(self, batch: int) -> tuple[int, ...]: ...

    @abstractmethod
    def _whole(self, q_BHTD: Tensor, kv_2BHTD: Tensor, record: bool) -> tuple[Tensor, Tensor | None]: ...

    @abstractmethod
    def _step(self, q_BH1D: Tensor, kv_2BH1D: Tensor, cache: LayerCache, position: int) -> Tensor: ...

    @abstractmethod
    def _chunk(self, q_BHTD: Tensor, kv_2BHTD: Tensor, cache: LayerCache, position: int) -> Tensor: ...

    def split(self, x_BTW: Tensor) -> tuple[Tensor, Tensor]:
        """Returns queries [B, H, T, D], and keys and values [2, B, H, T, D]."""
        batch, length, _ = x_BTW.shape
        heads_BT3HD = cast("Tensor", self.project_in(x_BTW)).view(batch, length, 3, self.heads, self.head_width)
        heads_3BHTD = heads_BT3HD.permute(2, 0, 3, 1, 4)
        return heads_3BHTD[0], heads_3BHTD[1:]


class PrefixAttention(SelfAttention):
    """Causal attention to the first `keys` positions: all of them for DENSE, the prime for PRIME."""

    def __init__(self, width: int, inner: int, heads: int, fold: Fold, keys: int) -> None:
        super().__init__(width, inner, heads, fold)
        self.keys = min(keys, fold.positions)

    def _cache_shape(self, batch: int) -> tuple[int, ...]:
        return batch, self.heads, self.keys, self.head_width

    def _whole(self, q_BHTD: Tensor, kv_2BHTD: Tensor, record: bool) -> tuple[Tensor, Tensor | None]:
        k_BHSD, v_BHSD = kv_2BHTD[..., : self.keys, :]
        queries, keys = q_BHTD.shape[2], k_BHSD.shape[2]
        if queries == keys:
            return attend(q_BHTD, k_BHSD, v_BHSD, causal=True, record=record)
        mask_TS = causal_mask(queries, keys, 0, q_BHTD.device)
        return attend(q_BHTD, k_BHSD, v_BHSD, mask_TS=mask_TS, record=record)

    def _write(self, kv_2BHTD: Tensor, cache: LayerCache, position: int) -> int:
        """Writes the keys and values that are cached; returns how many keys the cache holds afterwards."""
        stop = min(position + kv_2BHTD.shape[3], self.keys)
        if position < stop:
            cache.kv[:, :, :, position:stop] = kv_2BHTD[:, :, :, : stop - position]
        return stop

    def _step(self, q_BH1D: Tensor, kv_2BH1D: Tensor, cache: LayerCache, position: int) -> Tensor:
        keys = self._write(kv_2BH1D, cache, position)
        return F.scaled_dot_product_attention(q_BH1D, cache.k[:, :, :keys], cache.v[:, :, :keys])

    def _chunk(self, q_BHTD: Tensor, kv_2BHTD: Tensor, cache: LayerCache, position: int) -> Tensor:
        keys = self._write(kv_2BHTD, cache, position)
        mask_TS = causal_mask(q_BHTD.shape[2], keys, position, q_BHTD.device)
        return attend(q_BHTD, cache.k[:, :, :keys], cache.v[:, :, :keys], mask_TS=mask_TS)[0]


class RowAttention(SelfAttention):
    """Attention to one row: the query's own, causally (BLOCK, `lag` 0), or the row before (PREVIOUS_BLOCK, `lag` 1)."""

    def __init__(self, width: int, inner: int, heads: int, fold: Fold, lag: int) -> None:
        super().__init__(width, inner, heads, fold)
        self.lag = lag

    def _cache_shape(self, batch: int) -> tuple[int, ...]:
        return batch, self.heads, (self.lag + 1) * self.fold.columns, self.head_width

    def _whole(self, q_BHTD: Tensor, kv_2BHTD: Tensor, record: bool) -> tuple[Tensor, Tensor | None]:
        before = self.lag * self.fold.columns
        kv_2BHTD = F.pad(kv_2BHTD, (0, 0, before, 0))[..., : q_BHTD.shape[2], :]
        return self._rows(q_BHTD, kv_2BHTD, record)

    def _rows(self, q_BHTD: Tensor, kv_2BHTD: Tensor, record: bool = False) -> tuple[Tensor, Tensor | None]:
        """Attends row by row: queries of row r to the r-th row of the keys."""
        folded = ((-1, self.fold.columns), (0, 2, 1, 3, 4))
        q_FHCD, k_FHCD, v_FHCD = (
            torch.unflatten(x_BHTD, 2, folded[0]).permute(folded[1]).flatten(0, 1) for x_BHTD in (q_BHTD, *kv_2BHTD)
        )
        out_FHCD, weights = attend(q_FHCD, k_FHCD, v_FHCD, causal=self.lag == 0, record=record)
        return torch.unflatten(out_FHCD, 0, (q_BHTD.shape[0], -1)).permute(folded[1]).flatten(2, 3), weights

    def slot(self, row: int) -> int:
        """Returns the index in the cache at which a row begins."""
        return row % (self.lag + 1) * self.fold.columns

    def _step(self, q_BH1D: Tensor, kv_2BH1D: Tensor, cache: LayerCache, position: int) -> Tensor:
        row, column = divmod(position, self.fold.columns)
        cache.kv[:, :, :, self.slot(row) + column] = kv_2BH1D[:, :, :, 0]
        first = self.slot(row - self.lag)
        stop = first + (self.fold.columns if self.lag else column + 1)
        return F.scaled_dot_product_attention(q_BH1D, cache.k[:, :, first:stop], cache.v[:, :, first:stop])

    def _chunk(self, q_BHTD: Tensor, kv_2BHTD: Tensor, cache: LayerCache, position: int) -> Tensor:
        # The chunk is padded to whole rows: with the cached keys before it, and with zeros after it, which no query of
        # the chunk attends to. Queries of the padding are dropped.
        columns, length = self.fold.columns, q_BHTD.shape[2]
        row, column = divmod(position, columns)
        last_row = (position + length - 1) // columns
        first_row = row - self.lag
        rows = range(first_row, last_row + 1)
        # 1) Keys and values of all rows involved: the cached ones, then the chunk's.
        kv_2BHSD = kv_2BHTD.new_zeros(*kv_2BHTD.shape[:3], len(rows) * columns, self.head_width)
        for cached in range(first_row, row + 1):
            at = (cached - first_row) * columns
            kv_2BHSD[:, :, :, at : at + columns] = cache.kv[:, :, :, self.slot(cached) : self.slot(cached) + columns]
        begin = self.lag * columns + column
        kv_2BHSD[:, :, :, begin : begin + length] = kv_2BHTD
        # 2) The cache keeps the last rows.
        for cached in range(last_row - self.lag, last_row + 1):
            at = (cached - first_row) * columns
            cache.kv[:, :, :, self.slot(cached) : self.slot(cached) + columns] = kv_2BHSD[:, :, :, at : at + columns]
        # 3) Attention over whole rows, of which the chunk's queries are cut out.
        padded = (last_row - row + 1) * columns
        q_BHSD = F.pad(q_BHTD, (0, 0, column, padded - column - length))
        return self._rows(q_BHSD, kv_2BHSD[:, :, :, :padded])[0][:, :, column : column + length]


class ColumnAttention(SelfAttention):
    """COLUMN: causal attention to the same column of this row and of all earlier rows."""

    def _cache_shape(self, batch: int) -> tuple[int, ...]:
        return self.fold.columns, batch, self.heads, self.fold.rows, self.head_width

    def _fold(self, x_BHTD: Tensor) -> Tensor:
        """Returns [F, H, R, D] with F = columns times batch."""
        return torch.unflatten(x_BHTD, 2, (-1, self.fold.columns)).permute(3, 0, 1, 2, 4).flatten(0, 1)

    def _unfold(self, x_FHRD: Tensor) -> Tensor:
        return torch.unflatten(x_FHRD, 0, (self.fold.columns, -1)).permute(1, 2, 3, 0, 4).flatten(2, 3)

    def _whole(self, q_BHTD: Tensor, kv_2BHTD: Tensor, record: bool) -> tuple[Tensor, Tensor | None]:
        k_BHTD, v_BHTD = kv_2BHTD
        q_FHRD, k_FHRD, v_FHRD = self._fold(q_BHTD), self._fold(k_BHTD), self._fold(v_BHTD)
        out_FHRD, weights = attend(q_FHRD, k_FHRD, v_FHRD, causal=True, record=record)
        return self._unfold(out_FHRD), weights

    def _step(self, q_BH1D: Tensor, kv_2BH1D: Tensor, cache: LayerCache, position: int) -> Tensor:
        row, column = divmod(position, self.fold.columns)
        cache.kv[:, column, :, :, row] = kv_2BH1D[:, :, :, 0]
        return F.scaled_dot_product_attention(
            q_BH1D, cache.k[column, :, :, : row + 1], cache.v[column, :, :, : row + 1]
        )

    def _chunk(self, q_BHTD: Tensor, kv_2BHTD: Tensor, cache: LayerCache, position: int) -> Tensor:
        columns, length = self.fold.columns, q_BHTD.shape[2]
        row, column = divmod(position, columns)
        rows = -(-(position + length) // columns)
        at_T = torch.arange(position, position + length, device=q_BHTD.device)
        # Advanced indices that are not adjacent move their dimension to the front, hence the order of the values.
        cache.kv[:, at_T % columns, :, :, at_T // columns] = kv_2BHTD.permute(3, 0, 1, 2, 4)
        q_FHRD = self._fold(F.pad(q_BHTD, (0, 0, column, rows * columns - position - length)))
        k_FHSD, v_FHSD = (x[..., :rows, :].flatten(0, 1) for x in (cache.k, cache.v))
        mask_RS = causal_mask(rows - row, rows, row, q_BHTD.device)
        out_FHRD, _ = attend(q_FHRD, k_FHSD, v_FHSD, mask_TS=mask_RS)
        return self._unfold(out_FHRD)[:, :, column : column + length]


class SummaryAttention(SelfAttention):
    """SUMMARY and SPREAD_SUMMARY: attention to zeros and the last `spread` positions of every row but the final one."""

    def __init__(self, width: int, inner: int, heads: int, fold: Fold, spread: int | None) -> None:
        super().__init__(width, inner, heads, fold)
        if spread is None or not 1 <= spread <= fold.columns:
            raise ConfigError(f"spread is {spread}; summary layers of type 5 need 1 to {fold.columns}, a row's length")
        self.spread = spread

    def _cache_shape(self, batch: int) -> tuple[int, ...]:  # noqa: ARG002 - it has no cache
        raise ConfigError("attention_order 3, 4 or 5 has summary layers, which cannot sample; choose another order")

    def _whole(self, q_BHTD: Tensor, kv_2BHTD: Tensor, record: bool) -> tuple[Tensor, Tensor | None]:
        columns, spread = self.fold.columns, self.spread
        kept_2BHRXD = torch.unflatten(kv_2BHTD, 3, (-1, columns))[:, :, :, :-1, columns - spread :]
        k_BHSD, v_BHSD = F.pad(kept_2BHRXD.flatten(3, 4), (0, 0, spread, 0))
        at_T = torch.arange(q_BHTD.shape[2], device=q_BHTD.device)
        at_S = torch.unflatten(at_T, 0, (-1, columns))[:-1, columns - spread :].flatten()
        at_S = F.pad(at_S, (spread, 0), value=-1)  # every query attends to the zeros
        return attend(q_BHTD, k_BHSD, v_BHSD, mask_TS=at_S <= at_T[:, None], record=record)

    def _step(self, q_BH1D: Tensor, kv_2BH1D: Tensor, cache: LayerCache, position: int) -> Tensor:
        raise NotImplementedError  # unreachable: `new_cache` raises

    def _chunk(self, q_BHTD: Tensor, kv_2BHTD: Tensor, cache: LayerCache, position: int) -> Tensor:
        raise NotImplementedError


class CrossAttention(Attention):
    """CROSS: attention to all positions of the encoder's output, without a mask."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__(width, inner, heads)
        self.project_in = Projection(width, inner)
        self.project_encoder = Projection(width, 2 * inner)
        nn.init.zeros_(self.project_out.weight)  # initially the identity (docs/upstream.md, Attention)

    def forward(
        self, x_BTW: Tensor, encoder_BNW: Tensor | None = None, *, record: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the output [B, T, W] and, if `record`, the weights [B, H, T, N]."""
        k_BHND, v_BHND = self._encode(encoder_BNW, x_BTW.dtype)
        out_BHTD, weights = attend(self._query(x_BTW), k_BHND, v_BHND, record=record)
        return self.merge(out_BHTD), weights

    def extend(self, x_BTW: Tensor, cache: LayerCache, position: int) -> Tensor:  # noqa: ARG002 - has no positions
        """Returns the output [B, T, W]; the cache is only read."""
        return self.extend_over(x_BTW, cache.k, cache.v)

    def extend_over(self, x_BTW: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
        """Returns the output [B, T, W] of attending to all of the encoder's keys."""
        return self.merge(F.scaled_dot_product_attention(self._query(x_BTW), k_BHND, v_BHND))

    def new_cache(
        self,
        batch: int,  # noqa: ARG002 - given by the encoder's output
        dtype: torch.dtype,
        device: torch.device,
        encoder_BNW: Tensor | None = None,
    ) -> LayerCache:
        """Returns a cache that holds the keys and values of the encoder's output."""
        return LayerCache(self._encode(encoder_BNW, dtype).to(device).contiguous())

    def _query(self, x_BTW: Tensor) -> Tensor:
        q_BTI = cast("Tensor", self.project_in(x_BTW))
        return torch.unflatten(q_BTI, 2, (self.heads, -1)).transpose(1, 2)

    def _encode(self, encoder_BNW: Tensor | None, dtype: torch.dtype) -> Tensor:
        if encoder_BNW is None:
            raise ConfigError("attention_order has cross attention but no encoder is given; give one, or another order")
        kv_BNI = cast("Tensor", self.project_encoder(encoder_BNW.to(dtype)))
        return torch.unflatten(kv_BNI, 2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)


def make_attention(kind: AttentionType, width: int, inner: int, heads: int, fold: Fold) -> Attention:
    """Returns a layer of the given type; `inner` is the width of the queries (as of keys, values) of all heads."""
    match kind:
        case AttentionType.DENSE:
            return PrefixAttention(width, inner, heads, fold, fold.positions)
        case AttentionType.PRIME:
            return PrefixAttention(width, inner, heads, fold, fold.prime_keys)
        case AttentionType.BLOCK:
            return RowAttention(width, inner, heads, fold, lag=0)
        case AttentionType.PREVIOUS_BLOCK:
            return RowAttention(width, inner, heads, fold, lag=1)
        case AttentionType.COLUMN:
            return ColumnAttention(width, inner, heads, fold)
        case AttentionType.SUMMARY:
            return SummaryAttention(width, inner, heads, fold, spread=1)
        case AttentionType.SPREAD_SUMMARY:
            return SummaryAttention(width, inner, heads, fold, fold.spread)
        case AttentionType.CROSS:
            return CrossAttention(width, inner, heads)
