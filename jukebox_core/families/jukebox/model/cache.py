"""What a transformer remembers of the positions it has read, in buffers that are allocated once and written in place.

Every attention layer needs another part of the past, so each type of layer has its own layout. Keys and values share
one buffer, so that a step writes both at once; `LayerCache.k` and `LayerCache.v` are its two halves.

======================  =====================  ===============================================================
type                    layout of `kv`         what it holds
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

from jukebox_core.runtime.heap import untouched

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class LayerCache:
    """Keys and values that one attention layer keeps; the layout is the layer's (see the table above)."""

    kv: Tensor
    k: Tensor = field(init=False)
    v: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Takes the halves apart once: a view costs as much time as a small layer."""
        self.k, self.v = self.kv.unbind(0)

    @classmethod
    def zeros(cls, *shape: int, dtype: torch.dtype, device: torch.device) -> LayerCache:
        """Returns a cache whose keys and whose values have `shape`, all zero.

        On the CPU memory is taken as it is written to: torch's own zeros would write to all of it at once, which for
        16 songs of an upsampler are 12 GB. It is taken in small pages. numpy's zeros ask for large ones, of which the
        first steps of a window need a new one for every layer and song; where the system has to find them, such steps
        took twice as long.
        """
        if device.type != "cpu":
            return cls(torch.zeros(2, *shape, dtype=dtype, device=device))
        memory = untouched(2 * math.prod(shape) * dtype.itemsize)
        return cls(torch.frombuffer(memory, dtype=dtype).view(2, *shape))

    def take(self, one: LayerCache, read: int) -> None:
        """Takes over for every sequence what the cache of one sequence holds after `read` positions."""
        by_column = self.kv.dim() == 6
        kept = -(-read // self.kv.shape[1]) if by_column else read
        self.kv[..., :kept, :].copy_(one.kv[..., :kept, :])


@dataclass(slots=True)
class TransformerCache:
    """The caches of a transformer's layers, and how many positions have been read.

    It is made by `Transformer.new_cache`, for one window of one batch, and belongs to whoever made it.
    """

    layers: list[LayerCache]
    position: int = 0  # the next position to be read

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the buffers take."""
        return sum(layer.kv.nbytes for layer in self.layers)
