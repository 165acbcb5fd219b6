"""VampNet's transformer: a grid of codes, some of them masked, to logits of every code.

    layer: x += fc(attention(norm_1(x)));  x += w_2(a * gelu(g)) with (a, g) the halves of w_1(norm_3(x))

Bidirectional, without biases and without positions but the relative ones of T5, whose one table serves every layer.
Legend: B batch, K codebooks read, P predicted, T time, W width, H heads, D width of a codebook's vectors, V codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from jukebox_core.families.vampnet.model.convolution import WNConv1d
from jukebox_core.families.vampnet.model.lora import LoRALinear
from jukebox_core.families.vampnet.model.positions import BUCKETS, buckets

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.config import TransformerConfig

_EPSILON = 1e-6


class Embedding(nn.Module):
    """Vectors of the codec's codebooks, and one for the mask, projected to the width of the model."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.mask_KD = nn.Parameter(torch.randn(config.n_codebooks, config.latent_dim))
        self.project = nn.Conv1d(config.n_codebooks * config.latent_dim, config.embedding_dim, 1)

    def latents(self, codes_BKT: Tensor, codebooks_KVD: Tensor) -> Tensor:
        """Returns the vectors [B, K D, T] of codes, book after book; the id V is the mask.

        K may be smaller or larger than the model's; books that it lacks have no mask.
        """
        books = codes_BKT.shape[1]
        known = codebooks_KVD[:books]
        masks = self.mask_KD[:books]
        rows = [torch.cat([known[k], masks[k : k + 1]]) for k in range(books)]
        return torch.cat([functional.embedding(codes_BKT[:, k], rows[k]).mT for k in range(books)], 1)

    def forward(self, codes_BKT: Tensor, codebooks_KVD: Tensor) -> Tensor:
        """Returns [B, W, T]."""
        return self.project(self.latents(codes_BKT, codebooks_KVD))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head attention over all positions."""

    def __init__(self, config: TransformerConfig, rank: int) -> None:
        super().__init__()
        width = config.embedding_dim
        self.heads, self.dropout = config.n_heads, config.dropout
        self.w_qs = LoRALinear(width, width, rank)
        self.w_ks = LoRALinear(width, width, 0)
        self.w_vs = LoRALinear(width, width, rank)
        self.fc = LoRALinear(width, width, rank)

    def forward(self, x_BTW: Tensor, bias_1HTT: Tensor) -> Tensor:
        """Returns [B, T, W]."""
        q, k, v = (self._split(each(x_BTW)) for each in (self.w_qs, self.w_ks, self.w_vs))
        dropout = self.dropout if self.training else 0.0
        y_BHTD = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias_1HTT, dropout_p=dropout)
        return self.fc(y_BHTD.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, x_BTW: Tensor) -> Tensor:
        return x_BTW.view(*x_BTW.shape[:2], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """Gated GELU: the second half of the first projection is the gate."""

    def __init__(self, config: TransformerConfig, rank: int) -> None:
        super().__init__()
        width = config.embedding_dim
        self.w_1 = LoRALinear(width, 4 * width, rank)
        self.w_2 = LoRALinear(2 * width, width, rank)
        self.dropout = nn.Dropout(config.dropout)

    def gated(self, x_BTW: Tensor) -> Tensor:
        """Returns what the second projection reads, [B, T, 2 W]."""
        value, gate = self.w_1(x_BTW).chunk(2, dim=-1)
        return value * functional.gelu(gate, approximate="tanh")  # type: ignore[no-any-return]

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Returns [B, T, W]."""
        return self.w_2(self.dropout(self.gated(x_BTW)))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention, then the feed-forward part, each after a norm."""

    def __init__(self, config: TransformerConfig, rank: int) -> None:
        super().__init__()
        self.norm_1 = nn.RMSNorm(config.embedding_dim, _EPSILON)
        self.attention = Attention(config, rank)
        self.norm_3 = nn.RMSNorm(config.embedding_dim, _EPSILON)
        self.feed_forward = FeedForward(config, rank)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTW: Tensor, bias_1HTT: Tensor) -> Tensor:
        """Returns [B, T, W]."""
        x_BTW = x_BTW + self.dropout(self.attention(self.norm_1(x_BTW), bias_1HTT))
        return x_BTW + self.dropout(self.feed_forward(self.norm_3(x_BTW)))  # type: ignore[no-any-return]


class VampTransformer(nn.Module):
    """The coarse or the coarse-to-fine model; it reads the vectors of the codec that its codes come from.

    Args:
        config: its sizes.
        rank: of low-rank updates; 0 has none.
    """

    codebooks_KVD: Tensor

    def __init__(self, config: TransformerConfig, rank: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config)
        self.layers = nn.ModuleList(Layer(config, rank) for _ in range(config.n_layers))
        self.positions = nn.Embedding(BUCKETS, config.n_heads)
        self.norm = nn.RMSNorm(config.embedding_dim, _EPSILON)
        self.classifier = WNConv1d(config.embedding_dim, config.vocab_size * config.n_predicted, 1)
        self.register_buffer(
            "codebooks_KVD", torch.zeros(config.n_codebooks, config.vocab_size, config.latent_dim), persistent=False
        )

    @property
    def device(self) -> torch.device:
        """Device of its weights."""
        return self.codebooks_KVD.device

    def bias(self, length: int) -> Tensor:
        """Returns the relative bias of attention, [1, H, T, T]."""
        ids_TT = buckets(length).to(self.positions.weight.device)
        return self.positions(ids_TT).permute(2, 0, 1)[None]  # type: ignore[no-any-return]

    def hidden(self, codes_BKT: Tensor) -> Tensor:
        """Returns what the classifier reads, [B, T, W]."""
        x_BTW = self.embedding(codes_BKT, self.codebooks_KVD).mT.contiguous()
        bias_1HTT = self.bias(codes_BKT.shape[-1])
        for layer in self.layers:
            x_BTW = layer(x_BTW, bias_1HTT)
        return self.norm(x_BTW)  # type: ignore[no-any-return]

    def forward(self, codes_BKT: Tensor) -> Tensor:
        """Returns logits [B, T P, V] in float32, time-major: position t P + p is book p at time t."""
        channels_BCT: Tensor = self.classifier(self.hidden(codes_BKT).mT)
        items, _, steps = channels_BCT.shape
        grid_BVPT = channels_BCT.view(items, -1, self.config.n_predicted, steps)
        return grid_BVPT.permute(0, 3, 2, 1).flatten(1, 2).float()

    def ordered(self, codes_BKT: Tensor) -> Tensor:
        """Returns what `forward` does, but for rounding: the classifier's rows are ordered instead of the logits.

        A training step takes an eighth less time. Sampling keeps `forward`, on whose rounding its tokens depend.
        """
        hidden_BTW, sizes = self.hidden(codes_BKT), self.config
        weight, bias = self.classifier.weight, self.classifier.bias
        weight_NW = weight.view(sizes.vocab_size, sizes.n_predicted, -1).transpose(0, 1).flatten(0, 1)
        bias_N = bias.view(sizes.vocab_size, sizes.n_predicted).mT.flatten()
        logits_BTN = functional.linear(hidden_BTW, weight_NW, bias_N)
        return logits_BTN.view(len(logits_BTN), -1, sizes.vocab_size).float()


def flatten_books(codes_BPT: Tensor) -> Tensor:
    """Returns a grid as the logits are ordered, [B, T P]: position t P + p is book p at time t."""
    return codes_BPT.mT.flatten(1)


def unflatten_books(flat_BN: Tensor, books: int) -> Tensor:
    """Returns the grid [B, P, T] that `flatten_books` made flat."""
    return flat_BN.view(len(flat_BN), -1, books).mT
