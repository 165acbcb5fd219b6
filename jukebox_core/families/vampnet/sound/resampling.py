"""Resampling by a windowed sinc, as upstream's library does it (docs/vamp.md)."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

_ZEROS = 24  # zero crossings of the sinc on either side
_ROLL_OFF = 0.945  # cut-off as a share of the lower rate


def resample(audio: Tensor, rate: int, wanted: int) -> Tensor:
    """Returns audio [..., time] at another rate; its length is floor(time * wanted / rate).

    What lies beyond the ends counts as equal to the first and the last sample.
    """
    if rate == wanted:
        return audio
    divisor = math.gcd(rate, wanted)
    old, new = rate // divisor, wanted // divisor
    kernels_N1K, reach = _kernels(old, new)
    flat_B1T = audio.reshape(-1, 1, audio.shape[-1])
    padded_B1T = functional.pad(flat_B1T, (reach, reach + old), mode="replicate")
    phases_BNT = functional.conv1d(padded_B1T, kernels_N1K.to(audio), stride=old)
    length = audio.shape[-1] * new // old
    return phases_BNT.mT.flatten(1)[:, :length].reshape(*audio.shape[:-1], length)


@lru_cache(maxsize=8)
def _kernels(old: int, new: int) -> tuple[Tensor, int]:
    """Returns one low-pass kernel for each output phase, [new, 1, K], and how far they reach back in samples."""
    cut_off = min(old, new) * _ROLL_OFF
    reach = math.ceil(_ZEROS * old / cut_off)
    inputs_K = torch.arange(-reach, reach + old).float() / old
    kernels = []
    for phase in range(new):
        at_K = ((inputs_K - phase / new) * cut_off).clamp(-_ZEROS, _ZEROS) * math.pi
        kernel_K = torch.sinc(at_K / math.pi) * torch.cos(at_K / _ZEROS / 2).square()
        kernels.append(kernel_K / kernel_K.sum())
    return torch.stack(kernels)[:, None], reach
