"""Loads models from files: built on the meta device, then filled tensor by tensor from the mapped file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from jukebox_core.families.jukebox.checkpoints.renames import PRIOR_RENAMES, VQVAE_RENAMES
from jukebox_core.families.jukebox.model.layers import Projection
from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.model.streaming import tap_major
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.models.checkpoints.checkpoint import load_into, open_checkpoint
from jukebox_core.runtime.allocator import release_freed_memory
from jukebox_core.runtime.device import COMPUTE_DTYPES
from jukebox_core.runtime.quantise import Int8Projection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.jukebox.config import JukeboxConfig


class _ShapesOnly(TorchFunctionMode):
    """Skips random initialisation, for which the meta device would import sympy and more: 80 MB, and seconds."""

    def __torch_function__(
        self, function: Callable[..., Any], _types: Any, arguments: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        if getattr(function, "__module__", None) == nn.init.__name__:
            return None  # initialisers write in place; their result is not used
        return function(*arguments, **(named or {}))


def build_vqvae(config: JukeboxConfig) -> VQVAE:
    """Returns the VQ-VAE of a model on the meta device: shapes without memory."""
    with torch.device("meta"), _ShapesOnly():
        return VQVAE(config.vqvae)


def build_prior(config: JukeboxConfig, level: int) -> Prior:
    """Returns the prior of `level` on the meta device: shapes without memory."""
    with torch.device("meta"), _ShapesOnly():
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
    config: JukeboxConfig, level: int, path: Path, *, device: torch.device | None = None, dtype: str = "float32"
) -> Prior:
    """Returns the prior of `level` with the weights in `path`, ready to sample.

    The transformer's projections are converted to `dtype` one by one as they are read; all else stays float32. For
    int8 they are quantised one by one as well, and compute in bfloat16.

    Raises:
        CheckpointError: the file is not a checkpoint of this prior, or holds numbers that are not finite.
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
        checkpoint, label = open_checkpoint(path), f"level {level} of {config.name}"
        load_into(prior, checkpoint, PRIOR_RENAMES, cast=cast, device=device, placed=placed, label=label)
    prior.set_compute_dtype(compute)
    tap_major(prior)
    return prior.eval().requires_grad_(requires_grad=False)
