"""Audio and spectrograms that an evaluation logs: reconstructions of the VQ-VAE, continuations of a prior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from jukebox_core.audio.pictures import spectrogram_png
from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.families.jukebox.sampling.decoder import clamp_codes, decode_window
from jukebox_core.sampling.noise import CounterNoise

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.vqvae import VQVAE
    from jukebox_core.families.jukebox.training.batch import PriorBatch
    from jukebox_core.families.jukebox.training.vqvae import VQVAEStep
    from jukebox_core.training.log import Log

_NEW_TOKENS = 256  # at most half a context: enough to hear, and fast to sample


def log_reconstruction(to: Log, number: int, step: VQVAEStep, audio_BT: Tensor, folder: Path) -> None:
    """Logs the first clip of a batch and its reconstruction from each level; `folder` is for temporary files."""
    device = next(step.parameters()).device
    sounds = {"original": audio_BT[0]}
    for level, output_BT in enumerate(step.reconstructions(audio_BT.to(device))):
        sounds[f"level_{level}"] = output_BT[0]
    _log_sounds(to, number, sounds, step.vqvae.config.sample_rate, folder)


def log_continuation(to: Log, number: int, prior: Prior, vqvae: VQVAE, batch: PriorBatch, folder: Path) -> None:
    """Logs a window decoded from its codes, and the same with its last tokens sampled by the prior."""
    device, level = next(prior.parameters()).device, prior.config.level
    codes_BT, upper_BU = batch.codes_BT.to(device), batch.upper_BU
    condition = prior.condition(batch.labels_BN.to(device), None if upper_BU is None else upper_BU.to(device))
    new = min(_NEW_TOKENS, prior.config.context // 2)
    known_BT = codes_BT[:, :-new]
    noise = CounterNoise(0, level, range(len(codes_BT)))
    drawn = decode_window(prior, condition, known_BT, new, LevelSampling(), noise, start=0)
    made_BT = clamp_codes(torch.cat([known_BT, *drawn], dim=1))
    vqvae = vqvae.to(device)
    sounds = {"music": vqvae.decode(codes_BT, level)[0], "continued": vqvae.decode(made_BT, level)[0]}
    _log_sounds(to, number, sounds, vqvae.config.sample_rate, folder)


def _log_sounds(to: Log, number: int, sounds: Mapping[str, Tensor], rate: int, folder: Path) -> None:
    """Logs each sound, [T], and its spectrogram; `folder` is for temporary files."""
    picture = folder / "spectrogram.png"
    for name, audio_T in sounds.items():
        audio_cpu_T = audio_T.detach().float().cpu()
        to.audio(name, number, audio_cpu_T, rate)
        spectrogram_png(audio_cpu_T.numpy(), rate, picture)
        with Image.open(picture) as drawn:
            to.image(f"{name}_spectrogram", number, np.asarray(drawn.convert("RGB")))
    picture.unlink()
