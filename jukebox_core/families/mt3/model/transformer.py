"""T5 1.1 encoder-decoder without relative positions: the network of MT3, and with a Perceiver of YourMT3.

    layer: x += o(attention(norm(x)));  of the decoder: x += o(attention(norm(x), source))
           x += wo(gelu(wi_0(n)) * wi_1(n)) with n = norm(x)

Sinusoidal positions are added once, to the projected frames and to the token embeddings. No biases, no scaling of
attention, no masks for padding. YourMT3 has a Perceiver as its encoder, whose vectors are split into channels of
instruments; its decoder reads and writes each channel as a sequence of its own.

Legend: B batch (of sequences), F frames, M mels, T tokens, S source positions (frames, then memory), W width, H heads,
D head width, V ids; G segments, C channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from jukebox_core.families.mt3.config import LinearFrontEndConfig
from jukebox_core.families.mt3.model.cache import DecoderCache, LayerCache
from jukebox_core.families.mt3.model.perceiver import Perceiver

if TYPE_CHECKING:
    from jukebox_core.families.mt3.config import MT3Network, TransformerConfig

_EPSILON = 1e-6
_BASE = 10_000.0


class Attention(nn.Module):
    """Multi-head attention without biases; softmax in float32."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        inner = config.heads * config.head_width
        self.heads = config.heads
        self.q = nn.Linear(config.width, inner, bias=False)
        self.k = nn.Linear(config.width, inner, bias=False)
        self.v = nn.Linear(config.width, inner, bias=False)
        self.o = nn.Linear(inner, config.width, bias=False)

    def keys_values(self, x_BSW: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values, each [B, H, S, D]."""
        return self._split(self.k(x_BSW)), self._split(self.v(x_BSW))

    def forward(self, x_BTW: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, *, causal: bool = False) -> Tensor:
        """Returns the attention of `x` over keys and values, [B, T, W]; `causal` needs T = S."""
        q_BHTD = self._split(self.q(x_BTW))
        y_BHTD = functional.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, is_causal=causal, scale=1.0)
        return self.o(y_BHTD.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def logits(self, x_BTW: Tensor, k_BHSD: Tensor, heads: int) -> Tensor:
        """Returns what the softmax of the first `heads` heads is taken of, float32 [B, heads, T, S]."""
        q_BTI = functional.linear(x_BTW, self.q.weight[: heads * k_BHSD.shape[-1]])
        q_BHTD = q_BTI.reshape(*q_BTI.shape[:-1], heads, -1).transpose(1, 2)
        return torch.matmul(q_BHTD, k_BHSD[:, :heads].mT).float()

    def _split(self, x_BTI: Tensor) -> Tensor:
        return x_BTI.reshape(*x_BTI.shape[:-1], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """Gated GELU."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(config.width, config.mlp_width, bias=False)
        self.wi_1 = nn.Linear(config.width, config.mlp_width, bias=False)
        self.wo = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Returns [B, T, W]."""
        return self.wo(functional.gelu(self.wi_0(x_BTW), approximate="tanh") * self.wi_1(x_BTW))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Attention over all positions, then the feed-forward part."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm_attention = nn.RMSNorm(config.width, _EPSILON)
        self.attention = Attention(config)
        self.norm_feed_forward = nn.RMSNorm(config.width, _EPSILON)
        self.feed_forward = FeedForward(config)

    def forward(self, x_BSW: Tensor) -> Tensor:
        """Returns [B, S, W]."""
        normed = self.norm_attention(x_BSW)
        x_BSW = x_BSW + self.attention(normed, *self.attention.keys_values(normed))
        return x_BSW + self.feed_forward(self.norm_feed_forward(x_BSW))  # type: ignore[no-any-return]


class CrossInputs(NamedTuple):
    """What the attention of a decoder layer over the source compares."""

    attention: Attention
    x_BTW: Tensor
    k_BHSD: Tensor


class DecoderLayer(nn.Module):
    """Causal attention, attention over the source, then the feed-forward part."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm_attention = nn.RMSNorm(config.width, _EPSILON)
        self.attention = Attention(config)
        self.norm_cross = nn.RMSNorm(config.width, _EPSILON)
        self.cross = Attention(config)
        self.norm_feed_forward = nn.RMSNorm(config.width, _EPSILON)
        self.feed_forward = FeedForward(config)

    def forward(self, x_BTW: Tensor, source_BSW: Tensor, record: list[CrossInputs] | None = None) -> Tensor:
        """Returns [B, T, W], all tokens at once; `record` receives what the attention over the source compares."""
        normed = self.norm_attention(x_BTW)
        x_BTW = x_BTW + self.attention(normed, *self.attention.keys_values(normed), causal=True)
        keys_values = self.cross.keys_values(source_BSW)
        if record is not None:
            record.append(CrossInputs(self.cross, self.norm_cross(x_BTW), keys_values[0]))
        return self._rest(x_BTW, *keys_values)

    def step(self, x_B1W: Tensor, cache: LayerCache, at: int) -> Tensor:
        """Returns [B, 1, W] of the token at position `at`, whose keys and values are written to the cache."""
        normed = self.norm_attention(x_B1W)
        keys, values = cache.append(at, *self.attention.keys_values(normed))
        return self._rest(x_B1W + self.attention(normed, keys, values), cache.cross_k_BHSD, cache.cross_v_BHSD)

    def _rest(self, x_BTW: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        x_BTW = x_BTW + self.cross(self.norm_cross(x_BTW), k_BHSD, v_BHSD)
        return x_BTW + self.feed_forward(self.norm_feed_forward(x_BTW))  # type: ignore[no-any-return]


class Stack(nn.Module):
    """Layers between the positions and the final norm."""

    frequencies: Tensor

    def __init__(self, config: TransformerConfig, layers: nn.ModuleList, rows: int | None = None) -> None:
        """Makes the layers; with `rows`, positions come from a table of as many vectors in the file."""
        super().__init__()
        self.register_buffer("frequencies", None if rows else frequencies(config.width, config.positions))
        self.table = nn.Parameter(_position_table(config.width, rows)) if rows else None
        self.layers = layers
        self.norm = nn.RMSNorm(config.width, _EPSILON)

    def positions(self, first: int, count: int) -> Tensor:
        """Returns the vectors of positions [count, W]: sines, then cosines."""
        if self.table is not None:
            return self.table[first : first + count]
        at = torch.arange(first, first + count, device=self.frequencies.device, dtype=torch.float32)
        angles = at[:, None] * self.frequencies.float()
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def encode(self, x_BSW: Tensor) -> Tensor:
        """Returns the encoded positions [B, S, W]."""
        x_BSW = x_BSW + self.positions(0, x_BSW.shape[1]).to(x_BSW.dtype)
        for layer in self.layers:
            x_BSW = layer(x_BSW)
        return self.norm(x_BSW)  # type: ignore[no-any-return]


class SegmentMemory(nn.Module):
    """Encoder of the ids of the segment before; padding takes part like any other id."""

    def __init__(self, config: TransformerConfig, depth: int) -> None:
        super().__init__()
        self.project = nn.Linear(config.width, config.width, bias=False)
        self.stack = Stack(config, nn.ModuleList(EncoderLayer(config) for _ in range(depth)))

    def forward(self, embedded_BTW: Tensor) -> Tensor:
        """Returns memory vectors [B, T, W] of embedded ids."""
        return self.stack.encode(self.project(embedded_BTW))


class MT3(nn.Module):
    """Spectrograms to ids."""

    window: Tensor

    def __init__(self, config: MT3Network) -> None:
        super().__init__()
        sizes, perceiver = config.transformer, config.perceiver
        self.config = config
        self.encoder: Stack | Perceiver
        if perceiver is not None:
            read = perceiver.latents // perceiver.channels * perceiver.width
            self.encoder = Perceiver(perceiver)
        else:
            read = config.front_end.mels  # type: ignore[union-attr]
            self.encoder = Stack(sizes, nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.encoder_depth)))
        self.project = nn.Linear(read, sizes.width, bias=False)
        self.embedding = nn.Embedding(sizes.embeddings, sizes.width)
        layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.decoder_depth))
        self.decoder = Stack(sizes, layers, perceiver.positions if perceiver else None)
        self.head = nn.Linear(sizes.width, sizes.embeddings, bias=False)
        self.memory = SegmentMemory(sizes, config.memory.depth) if config.memory is not None else None
        if isinstance(config.front_end, LinearFrontEndConfig):  # YourMT3's files hold its window
            self.register_buffer("window", torch.hann_window(config.front_end.fft))

    @property
    def device(self) -> torch.device:
        """Device of its weights."""
        return self.embedding.weight.device

    def encode(self, frames_GFM: Tensor) -> Tensor:
        """Returns the encoded frames of each sequence, [B, F, W].

        With a Perceiver, each segment has as many sequences as the model has channels, one after the other.
        """
        frames_GFM = frames_GFM.to(self.embedding.weight.dtype)
        if isinstance(self.encoder, Stack):
            return self.encoder.encode(self.project(frames_GFM))
        encoded_GFKW = self.encoder(frames_GFM)
        encoded_GFCP = encoded_GFKW.unflatten(2, (self.config.channels, -1)).flatten(3)
        return self.project(encoded_GFCP.transpose(1, 2).flatten(0, 1))  # type: ignore[no-any-return]

    def with_memory(self, encoded_BFW: Tensor, ids_BT: Tensor) -> Tensor:
        """Returns the source [B, S, W]: encoded frames, then the first memory vectors of the ids before.

        Of a model without memory, or with one of length 0, these are the encoded frames alone.
        """
        if self.memory is None or not self.config.memory or self.config.memory.length == 0:
            return encoded_BFW
        vectors_BTW = self.memory(self.embedding(ids_BT))
        return torch.cat([encoded_BFW, vectors_BTW[:, : self.config.memory.length]], dim=1)

    def forward(self, ids_BT: Tensor, source_BSW: Tensor, record: list[CrossInputs] | None = None) -> Tensor:
        """Returns the logits after each of the ids, float32 [B, T, V], without a cache.

        `record` receives what the attention of each layer over the source compares.
        """
        x_BTW = self._embedded(ids_BT, 0)
        for layer in self.decoder.layers:
            x_BTW = layer(x_BTW, source_BSW, record)
        return self._logits(x_BTW)

    def start(self, source_BSW: Tensor, rows: int | None = None) -> DecoderCache:  # noqa: ARG002  of other engines
        """Returns the cache of a batch before its first token, which has a row for each source.

        Args:
            source_BSW: what the decoder reads.
            rows: the most rows that `DecoderCache.select` will make of them; by default those of the source.
        """
        return DecoderCache([LayerCache(*layer.cross.keys_values(source_BSW)) for layer in self.decoder.layers])  # type: ignore[union-attr, operator]

    def step(self, ids_B: Tensor, cache: DecoderCache) -> Tensor:
        """Returns the logits after one more id of each row, float32 [B, V]."""
        x_B1W = self._embedded(ids_B[:, None], cache.length)
        for layer, its in zip(self.decoder.layers, cache.layers, strict=True):
            x_B1W = layer.step(x_B1W, its, cache.length)  # type: ignore[operator]
        cache.length += 1
        return self._logits(x_B1W)[:, 0]

    def _embedded(self, ids_BT: Tensor, first: int) -> Tensor:
        x_BTW = self.embedding(ids_BT)
        return x_BTW + self.decoder.positions(first, ids_BT.shape[1]).to(x_BTW.dtype)  # type: ignore[no-any-return]

    def _logits(self, x_BTW: Tensor) -> Tensor:
        x_BTW = self.decoder.norm(x_BTW)
        if self.config.perceiver is not None:
            x_BTW = x_BTW / x_BTW.shape[-1]  # as YourMT3 is trained
        return self.head(x_BTW).float()  # type: ignore[no-any-return]


def frequencies(width: int, positions: str) -> Tensor:
    """Returns the frequencies of positions [width / 2] by a formula; where a file has them, they are replaced.

    Magenta's weights were trained with ``magenta``; upstream's torch ports compute and store ``port`` (D1).
    """
    half = width // 2
    at = torch.arange(half, dtype=torch.float32)
    return _BASE ** -(at / (half - 1) if positions == "magenta" else 2 * at / width)


def _position_table(width: int, rows: int) -> Tensor:
    """Returns the sines and cosines of the first `rows` positions [rows, width], of an untrained model."""
    angles = torch.arange(rows)[:, None] * frequencies(width, "port")
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
