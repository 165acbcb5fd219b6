"""Loads models from files: built on the meta device, then filled tensor by tensor from the mapped file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from jukebox_core.families.jukebox.checkpoints.renames import PRIOR_RENAMES, VQVAE_RENAMES
from jukebox_core.families.jukebox.model.attention import CrossAttention
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
        CheckpointError: the file is not a checkpoint of this VQ-VAE, or holds numbers that are not finite.
    """
    vqvae = build_vqvae(config)
    checkpoint, label = open_checkpoint(path), f"the VQ-VAE of {config.name}"
    load_into(vqvae, checkpoint, VQVAE_RENAMES, cast=lambda *_: torch.float32, device=device, label=label)
    tap_major(vqvae)
    return vqvae.eval().requires_grad_(requires_grad=False)


def load_prior(
    config: JukeboxConfig,
    level: int,
    path: Path,
    *,
    device: torch.device | None = None,
    dtype: str = "float32",
    deepest: int | None = None,
) -> Prior:
    """Returns the prior of `level` with the weights in `path`, ready to sample.

    The transformer's projections are converted to `dtype` one by one as they are read; all else stays float32. For
    int8 they are quantised one by one as well, and compute in bfloat16. With `deepest`, the prior is that of
    `first_layers`; the file is checked as a whole, but no other tensor of it is read.

    Raises:
        CheckpointError: the file is not a checkpoint of this prior, or holds numbers that are not finite.
    """
    prior = build_prior(config, level)
    kept = None if deepest is None else set(first_layers(build_prior(config, level), deepest).state_dict())
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
        only = None if kept is None else kept.__contains__
        load_into(
            prior,
            open_checkpoint(path),
            PRIOR_RENAMES,
            cast=cast,
            device=device,
            placed=placed,
            only=only,
            label=f"level {level} of {config.name}",
        )
    if deepest is not None:
        first_layers(prior, deepest)
    prior.set_compute_dtype(compute)
    tap_major(prior)
    return prior.eval().requires_grad_(requires_grad=False)


def first_layers(prior: Prior, deepest: int) -> Prior:
    """Returns a prior, changed in place to its first `deepest` blocks and the conditioners that these need.

    It has no output projection: it computes activations, not logits.
    """
    blocks = prior.body.transformer.typed_blocks[:deepest]
    prior.body.transformer.blocks = nn.ModuleList(blocks)
    del prior.output
    if prior.lyric_encoder is not None:
        if any(isinstance(block.attention, CrossAttention) for block in blocks):
            del prior.lyric_encoder.output
        else:
            prior.lyric_encoder = None
    return prior
