"""Codebooks: fitted to latents before a training, and entries that are never chosen replaced while it runs.

A search by angle ignores lengths. So the last dimension of fitted vectors begins as a large constant: then the smallest
angle is the smallest distance in all other dimensions. Legend: R rows, W width of the latents, D width of a codebook,
V codes, B batch, K codebooks, T tokens, L widths of all codebooks together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.model.codec import Codec, Encoded, Quantizer
    from jukebox_core.families.vampnet.training.config import DeadCodes

_ROUNDS = 10  # of k-means
_LIFT = 4.0  # the constant, in typical lengths of the other dimensions
_TINY = 1e-6


@torch.no_grad()
def fit_codebooks(codec: Codec, rows_RW: Tensor, seed: int) -> None:
    """Sets all codebooks of a codec: each quantises the main directions of what those before it leave over.

    Args:
        codec: changed in place.
        rows_RW: latents of its encoder.
        seed: of the first entries.
    """
    generator = torch.Generator().manual_seed(seed)
    left_RW = rows_RW.clone()
    for book in codec.books:
        left_RW -= _fit(book, left_RW, generator)


def _fit(book: Quantizer, rows_RW: Tensor, generator: torch.Generator) -> Tensor:
    """Fits one codebook, and returns what it makes of the rows."""
    size, dim = book.codebook.weight.shape
    # 1) directions, and the entries along them
    _, axes_WW = torch.linalg.eigh(rows_RW.T @ rows_RW / len(rows_RW))
    axes_WD = axes_WW[:, 1 - dim :]
    points_RD = rows_RW @ axes_WD
    entries_VD, nearest_R = k_means(points_RD, size, generator)
    constant = _LIFT * points_RD.square().sum(1).mean().sqrt().clamp(min=_TINY)
    # 2) weights
    book.codebook.weight[:, :-1], book.codebook.weight[:, -1] = entries_VD, constant
    _set_point(book.in_proj, axes_WD.T)
    book.in_proj.weight_g[-1] = 0.0
    book.in_proj.bias.zero_()
    book.in_proj.bias[-1] = constant
    _set_point(book.out_proj, axes_WD)
    book.out_proj.bias.zero_()
    made_RW: Tensor = entries_VD[nearest_R] @ axes_WD.T
    return made_RW


def _set_point(conv: nn.Module, weight_OI: Tensor) -> None:
    """Sets the first outputs and inputs of a convolution of kernel 1; outputs read nothing else."""
    weight_v, weight_g = conv.weight_v, conv.weight_g
    assert isinstance(weight_v, Tensor)
    assert isinstance(weight_g, Tensor)
    outputs, inputs = weight_OI.shape
    weight_v[:outputs] = 0.0
    weight_v[:outputs, :inputs, 0] = weight_OI
    weight_v[:outputs, 0, 0] += _TINY  # a direction must not be 0
    weight_g.copy_(weight_v.square().sum((1, 2), keepdim=True).sqrt())


def k_means(points_RD: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns `count` centres of points [V, D], and the nearest centre of each point [R]; empty ones start again."""
    drawn = torch.randint(len(points_RD), (_ROUNDS + 1, count), generator=generator)
    order = torch.randperm(len(points_RD), generator=generator)[:count]
    centres_VD = points_RD[order if len(order) == count else drawn[-1]].clone()
    for turn in range(_ROUNDS):
        nearest_R = torch.cdist(points_RD, centres_VD).argmin(1)
        sums_VD = torch.zeros_like(centres_VD).index_add_(0, nearest_R, points_RD)
        counts_V1 = torch.bincount(nearest_R, minlength=count)[:, None]
        centres_VD = torch.where(counts_V1 > 0, sums_VD / counts_V1.clamp(min=1), points_RD[drawn[turn]])
    return centres_VD, torch.cdist(points_RD, centres_VD).argmin(1)


class CodeUsage(nn.Module):
    """How often each entry is chosen, on average, as a multiple of its fair part; rare entries are replaced.

    Args:
        books: number of codebooks.
        size: entries of each.
        config: of the average and the replacement.
    """

    usage_KV: Tensor

    def __init__(self, books: int, size: int, config: DeadCodes) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("usage_KV", torch.ones(books, size))

    @torch.no_grad()
    def update(self, codec: Codec, encoded: Encoded, generator: torch.Generator | None) -> Tensor:
        """Counts the codes of a batch, replaces rare entries by random latents of it; returns the share in use.

        In distributed training counts are summed, and the latents are those of the first process.
        """
        size = self.usage_KV.shape[1]
        codes_KN = encoded.codes_BKT.transpose(0, 1).flatten(1)
        counts_KV = torch.stack([torch.bincount(each, minlength=size) for each in codes_KN]).float()
        picked_V = torch.randint(codes_KN.shape[1], (size,), generator=generator, device=codes_KN.device)
        rows_VL = encoded.latents_BLT.detach().transpose(1, 2).flatten(0, 1)[picked_V].contiguous()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts_KV)
            dist.broadcast(rows_VL, 0)
        self.usage_KV.lerp_(counts_KV * (size / counts_KV[0].sum()), 1 - self.config.decay)
        dead_KV = self.usage_KV < self.config.threshold
        widths = [book.codebook.weight.shape[1] for book in codec.books]
        for book, dead_V, rows_VD in zip(codec.books, dead_KV, torch.split(rows_VL, widths, 1), strict=True):
            weight = book.codebook.weight
            weight.copy_(torch.where(dead_V[:, None], rows_VD.to(weight.dtype), weight))
        self.usage_KV.masked_fill_(dead_KV, 1.0)
        return 1 - dead_KV.float().mean()
