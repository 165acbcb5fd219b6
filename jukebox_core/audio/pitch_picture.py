"""A spectrogram whose rows are semitones, to be put behind a piano roll. Imports no torch.

Low pitches need long frames to be separated in frequency, high ones short frames to be exact in time, so there are two
lengths. Legend: T time in samples, N columns, F frequency bins, R rows.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

ROWS = 3  # per semitone
FLOOR_DB = -70.0  # below the loudest point
_SHADES = 48
_COLUMNS_AT_ONCE = 512


class _Band(NamedTuple):
    """Pitches [first, stop) and the samples of their frames."""

    first: int
    stop: int
    fft: int


_BANDS = (_Band(0, 56, 8192), _Band(56, 128, 2048))


def pitch_levels(samples_T: Floats, rate: int, columns: int, low: int, high: int) -> Floats:
    """Returns the level of each third of a semitone in equal segments of time, in dB, [R, N], lowest first.

    Args:
        samples_T: mono audio; at least one sample.
        rate: sample rate in Hz.
        columns: segments of time.
        low: the lowest pitch, a MIDI key.
        high: the highest one, which is included.
    """
    centres = ((np.arange(columns) + 0.5) * (len(samples_T) / columns)).astype(np.int64)
    parts = []
    for band in _BANDS:
        pitches = range(max(low, band.first), min(high + 1, band.stop))
        if pitches:
            parts.append(_magnitudes(samples_T, centres, band.fft, _filters(pitches, rate, band.fft)))
    levels_RN = np.concatenate(parts)
    loudest = max(float(levels_RN.max()), 1e-6)
    decibels: Floats = (20 * np.log10(np.maximum(levels_RN / loudest, 10 ** (FLOOR_DB / 20)))).astype(np.float32)
    return decibels


def pitch_png(samples_T: Floats, rate: int, columns: int, low: int, high: int) -> bytes:
    """Returns the picture of `pitch_levels` as a PNG file: a pixel for each value, the highest pitch on top."""
    from matplotlib import colormaps
    from PIL import Image

    levels_RN = pitch_levels(samples_T, rate, columns, low, high)[::-1]
    shades = np.round((levels_RN - FLOOR_DB) / -FLOOR_DB * (_SHADES - 1)).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(shades), mode="P")
    colours = colormaps["magma"](np.linspace(0, 0.75, _SHADES))[:, :3]  # notes are brighter
    picture.putpalette(np.round(colours * 255).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _filters(pitches: range, rate: int, fft: int) -> Floats:
    """Returns triangles around each third of a semitone, none narrower than two bins, [F, R]."""
    rows = (np.arange(len(pitches) * ROWS) - (ROWS - 1) / 2) / ROWS + pitches[0]
    hz_R = 440.0 * 2.0 ** ((rows - 69.0) / 12.0)
    width_R = np.maximum(hz_R * (2.0 ** (1 / 12 / ROWS) - 1), rate / fft)
    hz_F = np.linspace(0, rate / 2, fft // 2 + 1)
    filters: Floats = np.maximum(0, 1 - np.abs(hz_F[:, None] - hz_R) / width_R).astype(np.float32)
    return filters


def _magnitudes(samples_T: Floats, centres: NDArray[np.int64], fft: int, filters_FR: Floats) -> Floats:
    """Returns magnitudes [R, N] of frames around `centres`, relative to the length of the frame."""
    frames_TF = np.lib.stride_tricks.sliding_window_view(np.pad(samples_T, fft // 2), fft)
    window = np.hanning(fft + 1)[:-1].astype(np.float32)
    parts = []
    for first in range(0, len(centres), _COLUMNS_AT_ONCE):
        frames = frames_TF[centres[first : first + _COLUMNS_AT_ONCE]] * window
        parts.append(np.abs(np.fft.rfft(frames)).astype(np.float32) @ filters_FR)
    found: Floats = (np.concatenate(parts).T / window.sum()).astype(np.float32)
    return found
