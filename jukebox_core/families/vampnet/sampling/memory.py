"""Estimates of the memory of variations, from parameter counts of models on the meta device."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from jukebox_core.families.vampnet.checkpoints.loading import build_transformer
from jukebox_core.families.vampnet.config import ROLE_OF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.vampnet.config import VampNetConfig

WORKING_BYTES = 400_000_000  # torch itself, and a piece of audio in the codec
_LOGITS = 4  # copies of the logits of a pass, noise among them


def estimate_bytes(config: VampNetConfig, levels: Sequence[int], dtype: str, batch: int, *, together: bool) -> int:
    """Returns the estimated bytes of a batch of variations: the transformers' weights, and a pass over a chunk.

    The codec is part of `WORKING_BYTES`: its sizes are in its file alone, which is small beside the transformers.
    """
    roles = [ROLE_OF[level] for level in levels]
    weights = [weight_bytes(config, role, dtype) for role in roles]
    passes = [batch * pass_bytes(config, role) for role in roles]
    if together:
        return sum(weights) + max(passes, default=0) + WORKING_BYTES
    return max(map(sum, zip(weights, passes, strict=True)), default=0) + WORKING_BYTES


@lru_cache(maxsize=16)
def weight_bytes(config: VampNetConfig, role: str, dtype: str) -> int:  # noqa: ARG001 - all are read in float32
    """Returns the bytes that a transformer takes while it is loaded, with merged updates; it is converted later."""
    return sum(parameter.numel() * 4 for parameter in build_transformer(config.sizes(role)).parameters())


def pass_bytes(config: VampNetConfig, role: str) -> int:
    """Returns the bytes of one item in a pass over a chunk: logits, attention, and the rows of a layer."""
    sizes, steps = config.sizes(role), config.network.chunk(role)
    logits = _LOGITS * steps * sizes.n_predicted * sizes.vocab_size
    attention = 2 * sizes.n_heads * steps**2
    return 4 * (logits + attention + 8 * steps * sizes.embedding_dim)
