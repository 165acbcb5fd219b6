"""The original way to transcribe, in plain torch: upstream's torch ports as they decode, with the same weights.

No cache: each step computes the decoder over all ids so far, keys and values of the encoded frames included, and the
logits of all positions. Attention writes out its scores and adds a mask, as the library does that the ports are built
on. Batches of 5 segments, float32, greedy; a batch goes on until all of its segments have ended.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from jukebox_core.families.mt3.config import EOS_ID, PAD_ID

if TYPE_CHECKING:
    from jukebox_core.families.mt3.model.transformer import MT3, Attention, DecoderLayer, EncoderLayer, FeedForward

BATCH = 5


class Original:
    """A model that decodes in the original way."""

    def __init__(self, model: MT3) -> None:
        """Shares the weights of `model`, which must be in float32 and unpacked."""
        self.model = model

    @torch.no_grad()
    def decode(self, frames_BFM: Tensor, max_tokens: int) -> list[list[int]]:
        """Returns the ids of log-mels [B, F, M], greedily; `max_tokens` includes the start token."""
        encoded_BFW = self._encode(frames_BFM)
        ids_BT = torch.full((len(frames_BFM), 1), PAD_ID)
        ended_B = torch.zeros(len(frames_BFM), dtype=torch.bool)
        while ids_BT.shape[1] < max_tokens and not bool(ended_B.all()):
            next_B = self._decoder(ids_BT, encoded_BFW)[:, -1].argmax(-1)
            next_B = torch.where(ended_B, PAD_ID, next_B)
            ended_B |= next_B == EOS_ID
            ids_BT = torch.cat([ids_BT, next_B[:, None]], dim=1)
        return ids_BT[:, 1:].tolist()

    def _encode(self, frames_BFM: Tensor) -> Tensor:
        model = self.model
        x = model.project(frames_BFM)
        x = x + model.encoder.positions(0, x.shape[1])
        mask = torch.zeros(1, 1, x.shape[1], x.shape[1])
        for layer in model.encoder.layers:
            x = _encoder_layer(layer, x, mask)  # type: ignore[arg-type]
        return _norm(model.encoder.norm, x)

    def _decoder(self, ids_BT: Tensor, encoded_BFW: Tensor) -> Tensor:
        model, length = self.model, ids_BT.shape[1]
        x = model.embedding(ids_BT) + model.decoder.positions(0, length)
        causal = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
        everything = torch.zeros(1, 1, 1, encoded_BFW.shape[1])
        for layer in model.decoder.layers:
            x = _decoder_layer(layer, x, encoded_BFW, causal, everything)  # type: ignore[arg-type]
        logits: Tensor = model.head(_norm(model.decoder.norm, x))
        return logits


def _encoder_layer(layer: EncoderLayer, x: Tensor, mask: Tensor) -> Tensor:
    normed = _norm(layer.norm_attention, x)
    x = x + _attention(layer.attention, normed, normed, mask)
    return x + _feed_forward(layer.feed_forward, _norm(layer.norm_feed_forward, x))


def _decoder_layer(layer: DecoderLayer, x: Tensor, source: Tensor, causal: Tensor, everything: Tensor) -> Tensor:
    normed = _norm(layer.norm_attention, x)
    x = x + _attention(layer.attention, normed, normed, causal)
    x = x + _attention(layer.cross, _norm(layer.norm_cross, x), source, everything)
    return x + _feed_forward(layer.feed_forward, _norm(layer.norm_feed_forward, x))


def _norm(norm: nn.Module, x: Tensor) -> Tensor:
    variance = x.pow(2).mean(-1, keepdim=True)
    weight: Tensor = norm.weight  # type: ignore[assignment]
    return weight * (x * torch.rsqrt(variance + 1e-6))


def _attention(attention: Attention, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    def heads(each: Tensor) -> Tensor:
        return each.view(len(each), -1, attention.heads, each.shape[-1] // attention.heads).transpose(1, 2)

    query, key, value = heads(attention.q(x)), heads(attention.k(source)), heads(attention.v(source))
    scores = torch.matmul(query, key.transpose(3, 2)) + mask
    weights = scores.float().softmax(-1)
    mixed = torch.matmul(weights, value).transpose(1, 2).contiguous().view(len(x), x.shape[1], -1)
    out: Tensor = attention.o(mixed)
    return out


def _feed_forward(feed_forward: FeedForward, x: Tensor) -> Tensor:
    gate = feed_forward.wi_0(x)
    gelu = 0.5 * gate * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (gate + 0.044715 * gate.pow(3.0))))
    out: Tensor = feed_forward.wo(gelu * feed_forward.wi_1(x))
    return out
