"""Memory of training the VQ-VAE or a prior, estimated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.families.jukebox.model.convnet import ResidualStack
from jukebox_core.families.jukebox.model.prior import Condition, Prior
from jukebox_core.families.jukebox.model.transformer import Block
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.families.jukebox.training.vqvae import VQVAEStep
from jukebox_core.training.memory import TrainingMemory, training_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.training.config import PriorTraining, VQVAETraining

    Built = tuple[nn.Module, Callable[[], Tensor]]


def vqvae_memory(config: JukeboxConfig, training: VQVAETraining) -> TrainingMemory:
    """Returns the estimated memory of training the VQ-VAE, in bytes."""
    samples = int(training.seconds * config.vqvae.sample_rate)

    def build(batch: int) -> Built:
        step = VQVAEStep(
            VQVAE(config.vqvae), training.loss, training.codebook
        ).eval()  # updates of codebooks depend on values
        step.requires_grad_(requires_grad=True)
        return step, lambda: step(torch.zeros(batch, samples))[0]

    return training_memory(build, (ResidualStack,), training.loop)


def prior_memory(config: JukeboxConfig, level: int, training: PriorTraining) -> TrainingMemory:
    """Returns the estimated memory of training the prior of one level, in bytes."""
    prior_config = config.priors[level]

    def build(batch: int) -> Built:
        prior = Prior(prior_config, config.vqvae)
        return prior, lambda: prior.losses(_tokens(batch, prior_config.context), _condition(prior, batch)).total

    return training_memory(build, (Block,), training.loop)


def _condition(prior: Prior, batch: int) -> Condition:
    """Returns conditioning of the right shapes; fake tensors hold no labels to compute it from."""
    config, width = prior.config, prior.config.transformer.width
    start_B1W = torch.zeros(batch, 1, width, requires_grad=True)
    signal_BTW = torch.zeros(batch, config.context, width, requires_grad=True) if prior.timing is not None else None
    if prior.above is not None:
        signal_BTW = prior.above(_tokens(batch, prior.above_tokens))
    lyrics_BN = _tokens(batch, config.lyrics.tokens) if config.lyrics is not None else None
    encoder_BNW = prior.lyric_encoder(lyrics_BN) if prior.lyric_encoder is not None else None
    return Condition(start_B1W, signal_BTW, lyrics_BN, encoder_BNW)


def _tokens(batch: int, length: int) -> Tensor:
    return torch.zeros(batch, length, dtype=torch.int64)
