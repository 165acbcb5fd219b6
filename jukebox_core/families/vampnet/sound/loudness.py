"""Loudness by ITU-R BS.1770, in upstream's reading: the last, partial block counts (docs/vamp.md).

Legend: B items, T time, J blocks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOOR = -70.0  # LUFS of silence, and the absolute gate
_BLOCK, _STEP = 0.4, 0.1  # seconds
_SHORTEST = 0.5  # seconds; shorter signals are padded with silence
_OFFSET = -0.691
_RELATIVE_GATE = -10.0  # LU below the mean of blocks above the absolute gate


def loudness(audio_BT: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Returns the loudness of mono signals in LUFS, [B], at least `FLOOR`."""
    missing = int((_SHORTEST - audio_BT.shape[1] / rate) * rate)
    signal_BT = _k_weighted(np.pad(audio_BT, ((0, 0), (0, max(0, missing)))).astype(np.float64), rate)
    block, step = int(_BLOCK * rate), int(_STEP * rate)
    count = max(1, -(-(signal_BT.shape[1] - block) // step) + 1)
    padded_BT = np.pad(signal_BT, ((0, 0), (0, (count - 1) * step + block - signal_BT.shape[1])))
    blocks_BJT = np.lib.stride_tricks.sliding_window_view(padded_BT, block, axis=1)[:, ::step]
    energies_BJ = np.square(blocks_BJT).sum(axis=2) / (_BLOCK * rate)
    return np.array([_gated(energies_J) for energies_J in energies_BJ])


def k_weighting(rate: int) -> NDArray[np.float64]:
    """Returns the filters of the K weighting, a high shelf and a high pass, as second-order sections [2, 6]."""
    gain, frequency = 10 ** (4.0 / 40), 2 * math.pi * 1500.0 / rate
    alpha, cosine = math.sin(frequency) / math.sqrt(2), math.cos(frequency)
    root = 2 * math.sqrt(gain) * alpha
    shelf = [
        gain * ((gain + 1) + (gain - 1) * cosine + root),
        -2 * gain * ((gain - 1) + (gain + 1) * cosine),
        gain * ((gain + 1) + (gain - 1) * cosine - root),
        (gain + 1) - (gain - 1) * cosine + root,
        2 * ((gain - 1) - (gain + 1) * cosine),
        (gain + 1) - (gain - 1) * cosine - root,
    ]
    frequency = 2 * math.pi * 38.0 / rate
    alpha, cosine = math.sin(frequency), math.cos(frequency)  # of quality 0.5
    high_pass = [(1 + cosine) / 2, -(1 + cosine), (1 + cosine) / 2, 1 + alpha, -2 * cosine, 1 - alpha]
    sections = np.array([shelf, high_pass])
    scaled: NDArray[np.float64] = sections / sections[:, 3:4]
    return scaled


def _k_weighted(signal_BT: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    from scipy.signal import sosfilt  # it takes a while to import

    filtered: NDArray[np.float64] = sosfilt(k_weighting(rate), signal_BT, axis=1)
    return filtered


def _gated(energies_J: NDArray[np.float64]) -> float:
    """Returns the loudness of blocks above both gates, of which the second lies below the mean of the first."""
    with np.errstate(divide="ignore"):
        levels_J = _OFFSET + 10 * np.log10(energies_J)
        loud_J = levels_J > FLOOR
        if not loud_J.any():
            return FLOOR
        gate = _OFFSET + 10 * np.log10(energies_J[loud_J].mean()) + _RELATIVE_GATE
        kept_J = loud_J & (levels_J > gate)
        return max(FLOOR, float(_OFFSET + 10 * np.log10(energies_J[kept_J].mean())))
