"""The KV cache of a transformer, in buffers that are allocated once and written in place.

Every type of attention layer attends to another part of the past, so each has its own layout. Keys and values share
one buffer, so that a step writes both at once; `LayerCache.k` and `LayerCache.v` are its two halves.

======================  =====================  ===============================================================
type                    layout of `kv`         positions it holds
======================  =====================  ===============================================================
DENSE                   [2, B, H, T, D]        every position
PRIME                   [2, B, H, P, D]        the first P positions
BLOCK                   [2, B, H, C, D]        the current row
PREVIOUS_BLOCK          [2, B, H, 2 C, D]      two rows, row r in half ``r % 2``: no row is ever moved
COLUMN                  [2, C, B, H, R, D]     every position, by column: the keys of a step are contiguous
CROSS                   [2, B, H, N, D]        the encoder's keys and values, computed when the cache is made
======================  =====================  ===============================================================

Buffers start as zeros. The PREVIOUS_BLOCK layer relies on that: the first row has no row before it and reads zeros.

Shape suffixes: B batch, H heads, D head width, T positions, P prime positions, R rows, C columns, N encoder positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from jukebox_core.runtime.allocator import anonymous_mmap

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class LayerCache:
    """Cached keys and values of one attention layer; the layout is the layer's (see the table above)."""

    kv: Tensor
    k: Tensor = field(init=False)
    v: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Splits the buffer once: a view costs as much time as a small layer."""
        self.k, self.v = self.kv.unbind(0)

    @classmethod
    def zeros(cls, *shape: int, dtype: torch.dtype, device: torch.device) -> LayerCache:
        """Returns a cache whose keys and whose values have `shape`, all zero.

        On the CPU memory is allocated lazily, page by page as it is written: `torch.zeros` would write all of it at
        once, which for 16 samples of an upsampler are 12 GB. Pages are small. numpy's zeros ask for huge pages, of
        which the first steps of a window need a new one for every layer and sample; where the system has to find
        them, such steps took twice as long.
        """
        if device.type != "cpu":
            return cls(torch.zeros(2, *shape, dtype=dtype, device=device))
        memory = anonymous_mmap(2 * math.prod(shape) * dtype.itemsize)
        return cls(torch.frombuffer(memory, dtype=dtype).view(2, *shape))

    def prefill_from(self, single: LayerCache, positions: int) -> None:
        """Copies the first `positions` positions of the cache of a single sequence to every sequence of the batch."""
        by_column = self.kv.dim() == 6
        length = -(-positions // self.kv.shape[1]) if by_column else positions
        self.kv[..., :length, :].copy_(single.kv[..., :length, :])


@dataclass(slots=True)
class TransformerCache:
    """The caches of a transformer's layers, and how many positions they hold.

    `Transformer.new_cache` makes one for one window of one batch; the caller owns it.
    """

    layers: list[LayerCache]
    position: int = 0  # of the next input

    @property
    def nbytes(self) -> int:
        """Size of the buffers in bytes."""
        return sum(layer.kv.nbytes for layer in self.layers)
