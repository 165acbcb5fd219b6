"""What a training lets be heard and seen at its checks: sound through its codes, and what a prior goes on with."""

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
    from jukebox_core.families.jukebox.training.prior import PriorBatch
    from jukebox_core.families.jukebox.training.vqvae import VQVAEStep
    from jukebox_core.training.log import Log

_NEW_TOKENS = 256  # at most half a context: enough to hear, and few enough that checks stay short


def show_reconstruction(to: Log, number: int, step: VQVAEStep, audio_BT: Tensor, folder: Path) -> None:
    """Logs a clip, and what each level makes of it."""
    device = next(step.parameters()).device
    sounds = {"original": audio_BT[0]}
    for level, output_BT in enumerate(step.reconstructions(audio_BT.to(device))):
        sounds[f"level_{level}"] = output_BT[0]
    _log_sounds(to, number, sounds, step.vqvae.config.sample_rate, folder)


def show_continuation(to: Log, number: int, prior: Prior, vqvae: VQVAE, given: PriorBatch, folder: Path) -> None:
    """Logs a window of music through its codes, and the same with its end replaced by what the prior goes on with."""
    device, level = next(prior.parameters()).device, prior.config.level
    codes_BT, above_BU = given.codes_BT.to(device), given.above_BU
    condition = prior.condition(given.labels_BN.to(device), None if above_BU is None else above_BU.to(device))
    new = min(_NEW_TOKENS, prior.config.context // 2)
    known_BT = codes_BT[:, :-new]
    noise = CounterNoise(0, level, range(len(codes_BT)))
    drawn = decode_window(prior, condition, known_BT, new, LevelSampling(), noise, start=0)
    made_BT = clamp_codes(torch.cat([known_BT, *drawn], dim=1))
    vqvae = vqvae.to(device)
    sounds = {"music": vqvae.decode(codes_BT, level)[0], "continued": vqvae.decode(made_BT, level)[0]}
    _log_sounds(to, number, sounds, vqvae.config.sample_rate, folder)


def _log_sounds(to: Log, number: int, sounds: Mapping[str, Tensor], rate: int, folder: Path) -> None:
    """Logs each sound, [T], and its spectrogram; `folder` holds the picture for a moment."""
    picture = folder / "spectrogram.png"
    for name, audio_T in sounds.items():
        heard_T = audio_T.detach().float().cpu()
        to.sound(name, number, heard_T, rate)
        spectrogram_png(heard_T.numpy(), rate, picture)
        with Image.open(picture) as drawn:
            to.picture(f"{name}_spectrogram", number, np.asarray(drawn.convert("RGB")))
    picture.unlink()
