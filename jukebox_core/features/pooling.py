"""Rows of activations, resampled and pooled over time. Imports no torch.

Shape suffixes: T rows, M rows after resampling, W width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jukebox_core.features.config import FeatureConfig

    Rows = NDArray[Any]  # float32 or float16


def resample_fourier(rows_TW: Rows, rate: float, own_rate: float) -> Rows:
    """Returns the rows at `rate` Hz instead of `own_rate`, [M, W] with M = ceil(T rate / own_rate), in their dtype.

    The spectrum is cut or extended with zeros: there is no window, and the rows count as one period of a signal.
    """
    if rate == own_rate:
        return rows_TW
    length = len(rows_TW)
    wanted = math.ceil(length * (rate / own_rate))  # in this order: the rounding of the product decides M
    common = min(length, wanted)
    spectrum = np.fft.rfft(rows_TW.astype(np.float32), axis=0)[: common // 2 + 1]
    if common % 2 == 0 and wanted != length:  # the bin at half the lower rate: both halves of it, or one of two
        spectrum[common // 2] *= 2.0 if wanted < length else 0.5
    made: Rows = np.fft.irfft(spectrum, wanted, axis=0) * (wanted / length)
    return made.astype(rows_TW.dtype)


def frame_length(rate: float, own_rate: float) -> int:
    """Returns how many rows make one frame of `resample_frames`: at least one."""
    return max(1, math.floor(own_rate / rate))


def resample_frames(rows_TW: Rows, rate: float, own_rate: float) -> Rows:
    """Returns the means of frames of floor(own_rate / rate) rows, [T // frame, W]; an incomplete one is left out."""
    frame = frame_length(rate, own_rate)
    count = len(rows_TW) // frame
    means: Rows = rows_TW[: count * frame].reshape(count, frame, rows_TW.shape[1]).mean(axis=1, dtype=np.float32)
    return means.astype(rows_TW.dtype)


def row_rate(config: FeatureConfig, own_rate: float) -> float | None:
    """Returns the rows a second of a recipe's arrays, Hz; None where rows are pooled."""
    if config.pooling != "none":
        return None
    if config.rate is None:
        return own_rate
    return config.rate if config.resample == "fourier" else own_rate / frame_length(config.rate, own_rate)


class RowPool:
    """Collects the rows of one clip and one layer, window by window. Without resampling only the pooled row is kept."""

    def __init__(self, config: FeatureConfig, own_rate: float) -> None:
        self._config, self._own_rate = config, own_rate
        self._streams = config.pooling != "none" and config.rate is None
        self._rows: list[Rows] = []
        self._sum_W: NDArray[np.float64] | None = None
        self._max_W: Rows | None = None
        self._count = 0

    def add(self, rows_TW: Rows) -> None:
        """Adds the next rows, float32 or float16."""
        self._count += len(rows_TW)
        if not len(rows_TW):
            return
        if not self._streams:
            self._rows.append(rows_TW)
        elif self._config.pooling == "mean":  # in double precision: activations of large models are large
            added_W = rows_TW.sum(axis=0, dtype=np.float64)
            self._sum_W = added_W if self._sum_W is None else self._sum_W + added_W
        else:
            largest_W = rows_TW.max(axis=0)
            self._max_W = largest_W if self._max_W is None else np.maximum(self._max_W, largest_W)

    def result(self) -> Rows:
        """Returns the array of the clip: [W] if it is pooled, else [M, W].

        Raises:
            AudioError: the clip is too short for one row.
        """
        dtype = np.dtype(self._config.dtype)
        if self._sum_W is not None:
            return (self._sum_W / self._count).astype(dtype)
        if self._max_W is not None:
            return self._max_W.astype(dtype)
        rows_TW = self._resampled()
        if self._config.pooling == "mean":
            rows_TW = rows_TW.mean(axis=0, dtype=np.float32)
        elif self._config.pooling == "max":
            rows_TW = rows_TW.max(axis=0)
        return rows_TW.astype(dtype, copy=False)

    def _resampled(self) -> Rows:
        rate, rows = self._config.rate, np.concatenate(self._rows) if self._rows else np.empty((0, 0), np.float32)
        if rate is not None and len(rows):
            how = resample_fourier if self._config.resample == "fourier" else resample_frames
            rows = how(rows, rate, self._own_rate)
        if not len(rows):
            raise AudioError(
                f"{self._count} codes of audio make no row"
                + (f" at rate={rate:g}" if rate is not None else "")
                + "; choose longer audio"
            )
        return rows
