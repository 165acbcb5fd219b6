"""How much memory sampling needs, counted on models that are built without any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.families.jukebox.layers import Projection
from jukebox_core.families.jukebox.loading import build_prior, build_vqvae
from jukebox_core.runtime.device import COMPUTE_DTYPES, DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.jukebox.config import JukeboxConfig

WORKING_BYTES = 400_000_000  # torch itself, activations of a prefill chunk, a window's noise


def estimate_bytes(config: JukeboxConfig, level: int, dtype: str, batch: int) -> int:
    """Returns the bytes that sampling `batch` songs side by side at `level` takes, about: weights, caches, work."""
    return weight_bytes(config, level, dtype) + _other_bytes(config, level, dtype, batch)


def estimate_bytes_together(config: JukeboxConfig, levels: Sequence[int], dtype: str, batch: int) -> int:
    """Returns what `estimate_bytes` does where the priors of all `levels` stay in memory while one of them samples."""
    weights = sum(weight_bytes(config, level, dtype) for level in levels)
    return weights + max((_other_bytes(config, level, dtype, batch) for level in levels), default=0)


def weight_bytes(config: JukeboxConfig, level: int, dtype: str) -> int:
    """Returns the bytes that the prior of `level` takes in memory."""
    prior, size = build_prior(config, level), DTYPES[dtype].itemsize
    inner = {
        id(parameter)
        for module in prior.body.transformer.modules()
        if isinstance(module, Projection)
        for parameter in module.parameters()
    }
    return sum(p.numel() * (size if id(p) in inner else 4) for p in prior.parameters())


def _other_bytes(config: JukeboxConfig, level: int, dtype: str, batch: int) -> int:
    prior = build_prior(config, level)
    codec = sum(p.numel() * 4 for p in build_vqvae(config).parameters())
    transformer = config.priors[level]
    lyrics = transformer.lyrics
    encoder = (
        torch.empty(batch, lyrics.tokens, transformer.transformer.width, device="meta")
        if lyrics is not None and lyrics.encoder is not None
        else None
    )
    cache = prior.body.transformer.new_cache(
        batch, dtype=COMPUTE_DTYPES[dtype], device=torch.device("meta"), encoder_BNW=encoder
    )
    signals = 2 * batch * transformer.positions * transformer.transformer.width * 4  # what each position adds
    return codec + cache.nbytes + signals + WORKING_BYTES
