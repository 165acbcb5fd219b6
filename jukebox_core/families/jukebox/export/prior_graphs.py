"""The graphs of a prior: conditioning of a window, prefill of known tokens, and one decode step.

    start, signal, encoder = condition(labels, codes above)
    caches = prefill(tokens, start, signal, encoder, known)
    repeat: logits, caches = step(token, position, start, signal, caches);  token = a draw from the logits

Caches have the fixed sizes of `model.cache`, one for each layer. Steps are those of `engines.static_steps`. Legend:
B batch, N label columns or lyric tokens, U codes above, T positions of the prefill, W width, V vocabulary, R rows,
C columns, H heads, D head width; 2 keys and values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn

from jukebox_core.families.jukebox.engines.static_steps import block_step
from jukebox_core.families.jukebox.model.attention import (
    ColumnAttention,
    CrossAttention,
    PrefixAttention,
    RowAttention,
    SelfAttention,
)
from jukebox_core.families.jukebox.model.prior import Condition

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.transformer import Block


class ConditionGraph(nn.Module):
    """Labels, and codes above, to the conditioning of a window."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior
        del prior.body, prior.output
        if prior.lyric_encoder is not None:
            del prior.lyric_encoder.output

    def forward(self, labels_BN: Tensor, codes_above_BU: Tensor | None = None) -> tuple[Tensor, ...]:
        """Returns start [B, 1, W], then signal [B, T, W] and the encoded lyrics [B, N, W] where the prior has them."""
        made = self.prior.condition(labels_BN, codes_above_BU)
        return tuple(each for each in (made.start_B1W, made.signal_BTW, made.encoder_BNW) if each is not None)


class PrefillGraph(nn.Module):
    """Known tokens to caches."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior
        keep_transformer(prior)
        del prior.output

    def forward(self, tokens_BT: Tensor, known_1: Tensor, *condition: Tensor) -> tuple[Tensor, ...]:
        """Returns the cache of each layer after the first `known_1` tokens; what the others are does not matter."""
        given = _condition(self.prior, condition)
        body, length = self.prior.body, tokens_BT.shape[1]
        x_BTW = torch.cat([given.start_B1W, body.embedding(tokens_BT[:, :-1])], dim=1) + body.position_PW[:length]
        signal_BPW = self.prior.signal(given)
        if signal_BPW is not None:
            x_BTW = x_BTW + signal_BPW[:, :length]
        caches = []
        for block in body.transformer.typed_blocks:
            x_BTW, cache = _prefilled(block, x_BTW, known_1, given.encoder_BNW)
            caches.append(cache)
        return tuple(caches)


class StepGraph(nn.Module):
    """One token of each row."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior
        keep_transformer(prior)

    def forward(self, token_B: Tensor, position_1: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Returns logits [B, V], and the caches of the layers that attend to tokens."""
        blocks = self.prior.body.transformer.typed_blocks
        given = _condition(self.prior, rest[: len(rest) - len(blocks)])
        body = self.prior.body
        x_B1W = torch.where(position_1 == 0, given.start_B1W, body.embedding(token_B[:, None]))
        x_B1W = x_B1W + body.position_PW.index_select(0, position_1)
        signal_BPW = self.prior.signal(given)
        signal_B1W = None if signal_BPW is None else signal_BPW.index_select(1, position_1)
        if signal_B1W is not None:
            x_B1W = x_B1W + signal_B1W
        caches = []
        for block, cache in zip(blocks, rest[len(rest) - len(blocks) :], strict=True):
            kv = cache if isinstance(block.attention, CrossAttention) else cache.clone()
            x_B1W = block_step(block, x_B1W, kv, position_1)
            if not isinstance(block.attention, CrossAttention):
                caches.append(kv)
        if signal_B1W is not None and not self.prior.config.merged_decoder:
            x_B1W = x_B1W + signal_B1W
        return self.prior.logits(x_B1W[:, 0]), *caches


def keep_transformer(prior: Prior) -> None:
    """Removes the conditioners of a prior, whose results are inputs."""
    prior.labels = prior.timing = prior.above = prior.lyric_encoder = prior.start_1W = None


def _condition(prior: Prior, tensors: tuple[Tensor, ...]) -> Condition:
    """Returns the conditioning in inputs: start, and signal and encoded lyrics where the prior has them."""
    start_B1W, *others = tensors
    signal = others.pop(0) if has_signal(prior) else None
    return Condition(start_B1W, signal, None, others.pop(0) if others else None)


def has_signal(prior: Prior) -> bool:
    """Whether a prior adds a signal at every music position."""
    return prior.config.upsample is not None or prior.config.timing is not None


def _prefilled(block: Block, x_BTW: Tensor, known_1: Tensor, encoder_BNW: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns x after a block, and the block's cache."""
    attention, normed_BTW = block.attention, block.norm_attention(x_BTW)
    update_BTW, _ = attention(normed_BTW, encoder_BNW)
    if isinstance(attention, CrossAttention):
        cache = attention.new_cache(x_BTW.shape[0], x_BTW.dtype, x_BTW.device, encoder_BNW).kv
    else:
        assert isinstance(attention, SelfAttention)
        cache = _cache(attention, attention.split(normed_BTW)[1], known_1)
    return block.add(x_BTW, update_BTW), cache


def _cache(attention: SelfAttention, kv_2BHTD: Tensor, known_1: Tensor) -> Tensor:
    """Returns what the cache of a layer holds after the first `known_1` positions, as `model.cache` lays it out."""
    fold = attention.fold
    whole_2BHPD = F.pad(kv_2BHTD, (0, 0, 0, fold.positions - kv_2BHTD.shape[3]))
    match attention:
        case PrefixAttention():
            return whole_2BHPD[:, :, :, : attention.keys]
        case ColumnAttention():
            return torch.unflatten(whole_2BHPD, 3, (fold.rows, fold.columns)).permute(0, 4, 1, 2, 3, 5)
        case RowAttention():
            # A row of zeros before the first row, and one after the last: the row before, and the row begun.
            rows_2BHRCD = torch.unflatten(F.pad(whole_2BHPD, (0, 0, fold.columns, fold.columns)), 3, (-1, fold.columns))
            row_1 = known_1 // fold.columns
            current = rows_2BHRCD.index_select(3, row_1 + 1)[:, :, :, 0]
            if not attention.lag:
                return current
            before = rows_2BHRCD.index_select(3, row_1)[:, :, :, 0]
            return torch.where(row_1 % 2 == 0, torch.cat([current, before], 3), torch.cat([before, current], 3))
        case _:
            raise AssertionError(f"{type(attention).__name__} has no cache")
