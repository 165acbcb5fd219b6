"""Estimates of the memory of variations, from parameter counts of models on the meta device."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from jukebox_core.families.vampnet.checkpoints.loading import build_transformer
from jukebox_core.families.vampnet.config import ROLE_OF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.vampnet.config import VampNetConfig

WORKING_BYTES = 400_000_000  # torch itself, what a pass leaves behind, and a piece of audio in the codec
_LOADING_BYTES = 300_000_000  # torch itself, while weights are loaded
_LOGITS = 4  # copies of the logits of a pass, noise among them
_SIZES = {"int8": 1, "bfloat16": 2}  # bytes of a weight after it was converted


def estimate_bytes(config: VampNetConfig, levels: Sequence[int], dtype: str, batch: int, *, together: bool) -> int:
    """Returns the estimated bytes of a batch of variations: the transformers' weights, and a pass over a chunk.

    The codec is part of `WORKING_BYTES`: its sizes are in its file alone, which is small beside the transformers.
    Weights are read in float32, and converted before the first pass: the peak is often that of loading.
    """
    roles = [ROLE_OF[level] for level in levels]
    loaded = [weight_bytes(config, role) for role in roles]
    held = [weights // 4 * _SIZES.get(dtype, 4) for weights in loaded]
    passes = [batch * pass_bytes(config, role) for role in roles]
    if together:
        loading = sum(held) + max((more - less for more, less in zip(loaded, held, strict=True)), default=0)
        return max(loading + _LOADING_BYTES, sum(held) + max(passes, default=0) + WORKING_BYTES)
    sampling = max(map(sum, zip(held, passes, strict=True)), default=0)
    return max(max(loaded, default=0) + _LOADING_BYTES, sampling + WORKING_BYTES)


@lru_cache(maxsize=16)
def weight_bytes(config: VampNetConfig, role: str) -> int:
    """Returns the bytes that a transformer takes while it is loaded, in float32 and with merged updates."""
    return sum(parameter.numel() * 4 for parameter in build_transformer(config.sizes(role)).parameters())


def pass_bytes(config: VampNetConfig, role: str) -> int:
    """Returns the bytes of one item in a pass over a chunk: logits, attention, and the rows of a layer."""
    sizes, steps = config.sizes(role), config.network.chunk(role)
    logits = _LOGITS * steps * sizes.n_predicted * sizes.vocab_size
    attention = 2 * sizes.n_heads * steps**2
    return 4 * (logits + attention + 8 * steps * sizes.embedding_dim)
