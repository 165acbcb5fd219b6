"""Untrained weights, drawn from a seed: the same seed and hyperparameters give the same file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from jukebox_core.families.jukebox.config import JukeboxConfig, VQVAEConfig, level_of
from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.model.vqvae import VQVAE, LevelCodec
from jukebox_core.models.checkpoints.checkpoint import save_safetensors

if TYPE_CHECKING:
    from pathlib import Path


_LOUDNESS = 0.1  # RMS of the noise for the initialisation, and of the audio of an untrained model


def write_seeded(config: JukeboxConfig, role: str, seed: int, path: Path) -> None:
    """Writes the untrained weights of one role to `path`; atomic."""
    module = new_vqvae(config, seed) if role == "vqvae" else new_prior(config, level_of(role), seed)
    save_safetensors(module, path, {"seed": seed, "role": role, "model": config.name, "trained": False})


def new_vqvae(config: JukeboxConfig, seed: int) -> VQVAE:
    """Returns an untrained VQ-VAE."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vqvae = VQVAE(config.vqvae)
        _data_dependent_init(vqvae, config.vqvae)
    return vqvae


def new_prior(config: JukeboxConfig, level: int, seed: int) -> Prior:
    """Returns the untrained prior of one level."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Prior(config.priors[level], config.vqvae)


@torch.no_grad()
def _data_dependent_init(vqvae: VQVAE, config: VQVAEConfig) -> None:
    """Initialises weights by variance, the codebook by encoded noise, and the output's gain by the decoded codebook.

    With the default initialisation signals vanish in so many layers, and the output is constant.
    """
    for parameter in vqvae.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="linear")
        else:
            nn.init.zeros_(parameter)
    audio_BT = _LOUDNESS * torch.randn(1, (config.bins + 1) * config.hops[-1])
    for level, codec in enumerate(vqvae.levels):
        assert isinstance(codec, LevelCodec)
        rows_NC = vqvae.features(audio_BT, level)[0].T
        codec.codebook.copy_(rows_NC[torch.randperm(len(rows_NC))[: config.bins]])
        loudness = codec.decode(codec.codebook.T[None]).square().mean().sqrt()
        codec.output.weight *= _LOUDNESS / loudness
