"""Estimates of the memory of sampling, from parameter counts of models on the meta device."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from jukebox_core.families.jukebox.checkpoints.loading import build_prior, build_vqvae
from jukebox_core.families.jukebox.model.layers import Projection
from jukebox_core.runtime.device import COMPUTE_DTYPES, DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.jukebox.config import JukeboxConfig

WORKING_BYTES = 400_000_000  # torch itself, activations of a prefill chunk, a window's noise


def estimate_bytes(config: JukeboxConfig, level: int, dtype: str, batch: int) -> int:
    """Returns the estimated bytes of sampling a batch of `batch` songs at `level`: weights, caches, activations."""
    return weight_bytes(config, level, dtype) + _other_bytes(config, level, dtype, batch)


def estimate_bytes_together(config: JukeboxConfig, levels: Sequence[int], dtype: str, batch: int) -> int:
    """Returns the estimated bytes if the priors of all `levels` stay in memory while one of them samples."""
    weights = sum(weight_bytes(config, level, dtype) for level in levels)
    return weights + max((_other_bytes(config, level, dtype, batch) for level in levels), default=0)


def estimate_feature_bytes(config: JukeboxConfig, level: int, deepest: int, dtype: str, batch: int) -> int:
    """Returns the estimated bytes of the first `deepest` layers of a prior, a batch of windows, and the VQ-VAE."""
    sizes = config.priors[level]
    weights = weight_bytes(config, level, dtype) * deepest // sizes.transformer.depth
    rows = batch * sizes.positions * sizes.transformer.width * 4
    return weights + 6 * rows + WORKING_BYTES + _codec_bytes(config)  # input, output, norm, and a layer's inner rows


@lru_cache(maxsize=64)
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
    return WORKING_BYTES + _codec_bytes(config) + batch * _song_bytes(config, level, dtype)


@lru_cache(maxsize=8)
def _codec_bytes(config: JukeboxConfig) -> int:
    return sum(p.numel() * 4 for p in build_vqvae(config).parameters())


@lru_cache(maxsize=64)
def _song_bytes(config: JukeboxConfig, level: int, dtype: str) -> int:
    """Returns the bytes of each song of a batch: its cache, and activations of each of its positions."""
    prior, sizes = build_prior(config, level), config.priors[level]
    lyrics = sizes.lyrics
    encoder = (
        torch.empty(1, lyrics.tokens, sizes.transformer.width, device="meta")
        if lyrics is not None and lyrics.encoder is not None
        else None
    )
    cache = prior.body.transformer.new_cache(
        1, dtype=COMPUTE_DTYPES[dtype], device=torch.device("meta"), encoder_BNW=encoder
    )
    return cache.nbytes + 2 * sizes.positions * sizes.transformer.width * 4
