"""Audio as the codec expects it: its rate, one channel, a loudness of -24 LUFS, peaks of at most 1, whole tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from jukebox_core.families.vampnet.sound.loudness import loudness
from jukebox_core.families.vampnet.sound.resampling import resample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.families.vampnet.config import CodecConfig

TARGET = -24.0  # LUFS
_LN_PER_DECIBEL = math.log(10) / 20


class Prepared(NamedTuple):
    """A recording that was prepared for the codec."""

    audio_B1T: Tensor  # padded with zeros to whole tokens
    loudness_B: NDArray[np.float64]  # LUFS before


def prepare(audio_BCT: Tensor, rate: int, codec: CodecConfig) -> Prepared:
    """Returns recordings as the codec expects them.

    Args:
        audio_BCT: float32 samples; the channels are averaged.
        rate: their sample rate, Hz.
        codec: sample rate and hop.
    """
    mono_B1T = resample(audio_BCT, rate, codec.sample_rate).mean(1, keepdim=True)
    measured_B = loudness(mono_B1T[:, 0].cpu().numpy(), codec.sample_rate)
    scaled_B1T = limited(normalised(mono_B1T, measured_B, TARGET))
    padding = codec.padded(scaled_B1T.shape[-1]) - scaled_B1T.shape[-1]
    return Prepared(functional.pad(scaled_B1T, (0, padding)), measured_B)


def normalised(audio_B1T: Tensor, measured_B: NDArray[np.float64], target: float | NDArray[np.float64]) -> Tensor:
    """Returns audio of `measured` loudness at the loudness `target`, both in LUFS."""
    gain_B = torch.exp(torch.from_numpy((target - measured_B) * _LN_PER_DECIBEL))
    return audio_B1T * gain_B.to(audio_B1T)[:, None, None]


def limited(audio_B1T: Tensor) -> Tensor:
    """Returns audio with items whose peak exceeds 1 scaled to a peak of 1."""
    peak_B11 = audio_B1T.abs().amax(-1, keepdim=True)
    return audio_B1T / peak_B11.clamp(min=1)
