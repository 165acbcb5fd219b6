"""Untrained weights, drawn from a seed: the same seed and hyperparameters give the same file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.families.jukebox.files import level_of
from jukebox_core.families.jukebox.prior import Prior
from jukebox_core.families.jukebox.vqvae import VQVAE
from jukebox_core.weights.checkpoint import save_safetensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from jukebox_core.families.jukebox.config import JukeboxConfig


def write_seeded(config: JukeboxConfig, role: str, seed: int, path: Path) -> None:
    """Writes the untrained weights of one role to `path`, whole or not at all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module: nn.Module = (
            VQVAE(config.vqvae) if role == "vqvae" else Prior(config.priors[level_of(role)], config.vqvae)
        )
    save_safetensors(module, path, {"seed": seed, "role": role, "model": config.name, "trained": False})
