"""Loads models from files: built on the meta device, then filled tensor by tensor from the mapped file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.families.jukebox.checkpoints.renames import PRIOR_RENAMES, VQVAE_RENAMES
from jukebox_core.families.jukebox.model.layers import Projection
from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.model.streaming import tap_major
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.models.checkpoints.checkpoint import load_into, open_checkpoint
from jukebox_core.models.checkpoints.shapes import shapes_only
from jukebox_core.runtime.allocator import release_freed_memory
from jukebox_core.runtime.device import COMPUTE_DTYPES
from jukebox_core.runtime.quantise import Int8Projection

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.jukebox.config import JukeboxConfig


def build_vqvae(config: JukeboxConfig) -> VQVAE:
    """Returns the VQ-VAE of a model on the meta device: shapes without memory."""
    with shapes_only():
        return VQVAE(config.vqvae)


def build_prior(config: JukeboxConfig, level: int) -> Prior:
    """Returns the prior of `level` on the meta device: shapes without memory."""
    with shapes_only():
        return Prior(config.priors[level], config.vqvae)


def load_vqvae(config: JukeboxConfig, path: Path, *, device: torch.device | None = None) -> VQVAE:
    """Returns the VQ-VAE with the weights in `path`, ready to encode and decode, in float32.

    Raises:
        CheckpointError: the file is not a checkpoint of this VQ-VAE.
    """
    vqvae = build_vqvae(config)
    load_into(vqvae, open_checkpoint(path), VQVAE_RENAMES, cast=lambda *_: torch.float32, device=device)
    tap_major(vqvae)
    return vqvae.eval().requires_grad_(requires_grad=False)


def load_prior(
    config: JukeboxConfig, level: int, path: Path, *, device: torch.device | None = None, dtype: str = "float32"
) -> Prior:
    """Returns the prior of `level` with the weights in `path`, ready to sample.

    The transformer's projections are converted to `dtype` one by one as they are read; all else stays float32. For
    int8 they are quantised one by one as well, and compute in bfloat16.

    Raises:
        CheckpointError: the file is not a checkpoint of this prior.
    """
    prior = build_prior(config, level)
    compute = COMPUTE_DTYPES[dtype]
    stored = torch.float32 if dtype == "int8" else compute  # quantised from the file's own precision
    inner = {
        f"body.transformer.{name}.{parameter}"
        for name, module in prior.body.transformer.named_modules()
        if isinstance(module, Projection)
        for parameter, _ in module.named_parameters()
    }

    def cast(name: str, _: Tensor) -> torch.dtype:
        return stored if name in inner else torch.float32

    def quantise(owner: str) -> None:
        projection = prior.get_submodule(owner) if owner.startswith("body.transformer.") else None
        if isinstance(projection, Projection) and not (projection.weight.is_meta or projection.bias.is_meta):
            parent, _, name = owner.rpartition(".")
            setattr(prior.get_submodule(parent), name, Int8Projection(projection.weight, projection.bias))

    with release_freed_memory():
        placed = quantise if dtype == "int8" else None
        load_into(prior, open_checkpoint(path), PRIOR_RENAMES, cast=cast, device=device, placed=placed)
    prior.set_compute_dtype(compute)
    tap_major(prior)
    return prior.eval().requires_grad_(requires_grad=False)
