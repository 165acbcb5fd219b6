"""Rhythm of audio: onset strength, onsets, tempo, and how strongly a beat repeats. Imports no torch.

Legend: T samples of time, S frames of `HOP` samples, B mel bands.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.evaluation.sound import spectrogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
    Strength = NDArray[np.float64]

HOP = 128  # samples between frames of the onset strength
TEMPO_TOLERANCE = 0.04  # within which two tempos are equal
_FFT, _WINDOW, _BANDS, _LOWEST_HZ = 1024, 1024, 40, 40.0
_FLOOR_DB = 60.0  # below the loudest band and frame; lower levels are clamped to it
_LAG_SECONDS = 0.02  # over which a rise is measured
_PEAK_SECONDS, _MEAN_SECONDS, _PEAK_DB = (
    0.05,
    0.4,
    1.5,
)  # an onset is the peak of its surroundings, and above their mean
_TEMPOS = (80.0, 160.0)  # range of the search, in beats per minute: one octave
_USUAL_TEMPO, _TEMPO_OCTAVES = 110.0, 0.6  # log-normal weighting of tempos: mean, and width in octaves
_BEATS = 4  # multiples of a beat whose autocorrelation counts for a tempo


def onset_strength(samples_T: Samples, rate: int) -> Strength:
    """Returns the rise of the level in dB, as mean over mel bands, of every frame [S]; 0 throughout for silence."""
    bands_SB = spectrogram(samples_T, _FFT, HOP, _WINDOW) @ _mel_bands(rate)
    levels_SB = 20 * np.log10(np.maximum(bands_SB, max(float(bands_SB.max()), 1e-9) * 10 ** (-_FLOOR_DB / 20)))
    lag = max(1, round(_LAG_SECONDS * rate / HOP))
    rises_SB = np.maximum(levels_SB[lag:] - levels_SB[:-lag], 0)
    strength_S: Strength = np.concatenate([np.zeros(lag), rises_SB.mean(axis=1)]).astype(np.float64)
    return strength_S


def onsets(samples_T: Samples, rate: int) -> NDArray[np.float64]:
    """Returns the times of onsets in seconds: local maxima of the onset strength well above its local mean."""
    strength_S = onset_strength(samples_T, rate)
    around, wide = (max(1, round(each * rate / HOP)) for each in (_PEAK_SECONDS, _MEAN_SECONDS))
    highest_S = np.lib.stride_tricks.sliding_window_view(np.pad(strength_S, around), 2 * around + 1).max(axis=1)
    mean_S = np.lib.stride_tricks.sliding_window_view(np.pad(strength_S, wide, mode="edge"), 2 * wide + 1).mean(axis=1)
    peaks = np.flatnonzero((strength_S == highest_S) & (strength_S > mean_S + _PEAK_DB))
    apart = np.diff(peaks, prepend=-around - 1) > around  # of a plateau, its first frame
    times: NDArray[np.float64] = peaks[apart] * np.float64(HOP / rate)
    return times


def tempo(samples_T: Samples, rate: int) -> float:
    """Returns the tempo in beats per minute, 80 to 160; 80 for silence.

    It has the highest mean autocorrelation of the onset strength at its first four beats, weighted by how usual it is.
    One octave is searched: in many pieces nothing distinguishes a tempo from its half or double.
    """
    correlation_S = _autocorrelation(onset_strength(samples_T, rate))
    tempos = np.geomspace(*_TEMPOS, 400)
    found = np.array([_of_beats(correlation_S, 60 * rate / HOP / each) for each in tempos])
    usual = np.exp(-0.5 * (np.log2(tempos / _USUAL_TEMPO) / _TEMPO_OCTAVES) ** 2)
    return float(tempos[np.argmax(found * usual)])


def beat_strength(samples_T: Samples, rate: int, tempos: Iterable[float]) -> float:
    """Returns the autocorrelation of the onset strength at one beat, -1 to 1, of the best of some tempos.

    Args:
        samples_T: the audio.
        rate: its sample rate in Hz.
        tempos: beats per minute that are possible, each within `TEMPO_TOLERANCE`.
    """
    correlation_S = _autocorrelation(onset_strength(samples_T, rate))
    best = -1.0
    for each in tempos:
        lag = 60 * rate / HOP / each
        first, last = int(lag / (1 + TEMPO_TOLERANCE)), int(np.ceil(lag * (1 + TEMPO_TOLERANCE)))
        best = max(best, float(correlation_S[first : last + 1].max(initial=-1.0)))
    return best


def tempo_is(found: float, tempos: Iterable[float]) -> bool:
    """Returns whether a tempo is one of `tempos` within `TEMPO_TOLERANCE`, in whatever octave."""
    return any(abs(2 ** _octave_difference(found / each) - 1) <= TEMPO_TOLERANCE for each in tempos)


def _octave_difference(ratio: float) -> float:
    """Returns the logarithm to base 2 of a ratio, without whole octaves, -0.5 to 0.5."""
    octaves = float(np.log2(ratio))
    return octaves - round(octaves)


def _autocorrelation(strength_S: Strength) -> Strength:
    """Returns the autocorrelation at lags of 0 frames and more, 1 at lag 0; zeros if nothing changes."""
    centred_S = strength_S - strength_S.mean()
    power = np.abs(np.fft.rfft(centred_S, 2 * len(centred_S))) ** 2
    sums_S = np.fft.irfft(power)[: len(centred_S)]
    unbiased_S: Strength = sums_S * (len(sums_S) / np.arange(len(sums_S), 0, -1))
    return unbiased_S / unbiased_S[0] if unbiased_S[0] > 0 else np.zeros(len(sums_S))


def _of_beats(correlation_S: Strength, lag: float) -> float:
    """Returns the mean autocorrelation at the first multiples of a lag that the audio is twice as long as."""
    lags = [times * lag for times in range(1, _BEATS + 1) if times * lag < len(correlation_S) / 2]
    return float(np.interp(lags, np.arange(len(correlation_S)), correlation_S).mean()) if lags else 0.0


@lru_cache(4)
def _mel_bands(rate: int) -> NDArray[np.float64]:
    """Returns triangular bands, equally spaced in mels, [F, B]."""
    lowest, highest = (2595 * np.log10(1 + hertz / 700) for hertz in (_LOWEST_HZ, rate / 2))
    edges_mel = np.linspace(lowest, highest, _BANDS + 2)
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    hertz_F1 = np.fft.rfftfreq(_FFT, 1 / rate)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hertz_F1 - low) / (centre - low), (high - hertz_F1) / (high - centre)
    bands_FB: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return bands_FB
