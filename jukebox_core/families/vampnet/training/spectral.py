"""Distances of audio: of log magnitudes and of mel bands, over several windows, and of waveforms.

Legend: B batch, N samples, F bins, S frames, M bands.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.training.config import SpectralConfig

_FLOOR = 1e-5  # magnitudes below count as silence
_QUIET = 1e-6  # mean square below which an item counts as silent: distortion is compared with it


def magnitudes(audio_BN: Tensor, window: int) -> Tensor:
    """Returns spectrograms [B, F, S] under a Hann window that moves by a quarter of itself."""
    shape_N = torch.hann_window(window, device=audio_BN.device)
    frames_BFS: Tensor = torch.stft(
        audio_BN, window, window // 4, window, shape_N, pad_mode="reflect", return_complex=True, normalized=True
    )
    return frames_BFS.abs()


def spectral_losses(target_BN: Tensor, made_BN: Tensor, rate: int, config: SpectralConfig) -> tuple[Tensor, Tensor]:
    """Returns the distances of spectrograms and of mel bands, scalars: means of log10 differences over all windows.

    Args:
        target_BN: audio.
        made_BN: its reconstruction.
        rate: sample rate, Hz.
        config: windows and bands.
    """
    spectral, mel = [], []
    for window, bands in zip(config.windows, config.mels, strict=True):
        target_BFS, made_BFS = magnitudes(target_BN, window), magnitudes(made_BN, window)
        spectral.append(_log_distance(target_BFS, made_BFS))
        filters_MF = mel_filters(rate, window, bands).to(target_BFS)
        mel.append(_log_distance(filters_MF @ target_BFS, filters_MF @ made_BFS))
    return torch.stack(spectral).mean(), torch.stack(mel).mean()


def distortion_db(target_BN: Tensor, made_BN: Tensor) -> Tensor:
    """Returns minus the signal-to-distortion ratio, the mean over items in dB, a scalar; lower is closer."""
    error_B = (made_BN - target_BN).square().mean(1)
    return 10 * ((error_B + _QUIET * 1e-3) / target_BN.square().mean(1).clamp(min=_QUIET)).log10().mean()


def scale_invariant_db(target_BN: Tensor, made_BN: Tensor) -> Tensor:
    """Returns the scale-invariant signal-to-distortion ratio (Le Roux et al. 2019), the mean over items in dB."""
    target_BN = target_BN - target_BN.mean(1, keepdim=True)
    made_BN = made_BN - made_BN.mean(1, keepdim=True)
    scale_B1 = (made_BN * target_BN).sum(1, keepdim=True) / target_BN.square().sum(1, keepdim=True).clamp(min=1e-12)
    aligned_BN = scale_B1 * target_BN
    rest_B = (made_BN - aligned_BN).square().sum(1).clamp(min=1e-12)
    return 10 * (aligned_BN.square().sum(1).clamp(min=1e-12) / rest_B).log10().mean()


def mel_filters(rate: int, window: int, bands: int) -> Tensor:
    """Returns triangular filters [M, F] over the bins of a spectrogram, evenly spaced in mels (O'Shaughnessy 1987)."""
    hertz_F = torch.arange(window // 2 + 1) * (rate / window)
    edges = 700 * (10 ** (torch.linspace(0, 2595 * math.log10(1 + rate / 2 / 700), bands + 2) / 2595) - 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising_MF, falling_MF = (hertz_F - low) / (middle - low), (high - hertz_F) / (high - middle)
    return torch.minimum(rising_MF, falling_MF).clamp(min=0)


def _log_distance(target_BFS: Tensor, made_BFS: Tensor) -> Tensor:
    return (made_BFS.clamp(min=_FLOOR).log10() - target_BFS.clamp(min=_FLOOR).log10()).abs().mean()
