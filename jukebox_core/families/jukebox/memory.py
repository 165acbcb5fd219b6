"""How much memory sampling needs, counted on models that are built without any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.families.jukebox.layers import Projection
from jukebox_core.families.jukebox.loading import build_prior, build_vqvae
from jukebox_core.runtime.device import DTYPES

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.config import JukeboxConfig

WORKING_BYTES = 400_000_000  # torch itself, activations of a prefill chunk, a window's noise


def estimate_bytes(config: JukeboxConfig, level: int, dtype: str, batch: int) -> int:
    """Returns the bytes that sampling `batch` songs side by side at `level` takes, about: weights, caches, work."""
    prior = build_prior(config, level)
    size = DTYPES[dtype].itemsize
    inner = {
        id(parameter)
        for module in prior.body.transformer.modules()
        if isinstance(module, Projection)
        for parameter in module.parameters()
    }
    weights = sum(p.numel() * (size if id(p) in inner else 4) for p in prior.parameters())
    codec = sum(p.numel() * 4 for p in build_vqvae(config).parameters())
    transformer = config.priors[level]
    lyrics = transformer.lyrics
    encoder = (
        torch.empty(batch, lyrics.tokens, transformer.transformer.width, device="meta")
        if lyrics is not None and lyrics.encoder is not None
        else None
    )
    cache = prior.body.transformer.new_cache(
        batch, dtype=DTYPES[dtype], device=torch.device("meta"), encoder_BNW=encoder
    )
    signals = 2 * batch * transformer.positions * transformer.transformer.width * 4  # what each position adds
    return weights + codec + cache.nbytes + signals + WORKING_BYTES
