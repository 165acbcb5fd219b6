"""How near one sound is to another, and what a piece of music is like: level, tempo, key. Imports no torch.

Legend: T samples of time, S spectrogram frames, F frequency bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soxr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

RESOLUTIONS = ((2048, 240, 1200), (1024, 120, 600), (512, 50, 240))  # transform, hop and window, in samples
MU_LAW_BITS = tuple(range(2, 9))  # a sample

_MU = 255
_FLOOR_DB = 60.0  # what lies further below a sound's loudest bin counts as silence
_FULL_SCALE = 0.999
_TEMPOS = (50.0, 200.0)  # beats a minute that are looked for
_USUAL_TEMPO, _TEMPO_OCTAVES = 115.0, 0.5  # between a tempo and its double, the nearer to the usual one is heard
_FLUX_FFT, _FLUX_HOP = 1024, 128
_CHROMA_FFT, _CHROMA_HOP = 8192, 2048
_CHROMA_HZ = (60.0, 2000.0)
# How well each semitone above the tonic fits a key, as listeners judged it (Krumhansl and Kessler, 1982).
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


class Key(NamedTuple):
    """The key that a piece fits best."""

    tonic: int  # 0 is C
    minor: bool
    fit: float  # correlation with listeners' judgement, -1 to 1


def si_sdr(target_T: Samples, found_T: Samples) -> float:
    """Returns the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019): higher is nearer."""
    target, found = target_T.astype(np.float64), found_T.astype(np.float64)
    target, found = target - target.mean(), found - found.mean()
    aligned = target * (found @ target / max(target @ target, 1e-12))
    residue = found - aligned
    return float(10 * np.log10(max(aligned @ aligned, 1e-12) / max(residue @ residue, 1e-12)))


def spectral_distance(target_T: Samples, found_T: Samples) -> float:
    """Returns the mean difference of two sounds' levels in dB, over all bins of three resolutions: lower is nearer.

    Bins more than 60 dB below the target's loudest count as at that floor.
    """
    distances = []
    for size, hop, window in RESOLUTIONS:
        target_SF, found_SF = (spectrogram(each, size, hop, window) for each in (target_T, found_T))
        floor = max(float(target_SF.max()), 1e-9) * 10 ** (-_FLOOR_DB / 20)
        distances.append(np.abs(20 * np.log10(np.maximum(target_SF, floor) / np.maximum(found_SF, floor))).mean())
    return float(np.mean(distances))


def spectrogram(samples_T: Samples, size: int, hop: int, window: int) -> NDArray[np.float32]:
    """Returns magnitudes [S, F] of Hann windows, zeros beyond both ends."""
    padded = np.pad(samples_T, window // 2)
    frames_SW = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    hann_W = np.hanning(window + 1)[:-1].astype(np.float32)
    magnitudes: NDArray[np.float32] = np.abs(np.fft.rfft(frames_SW * hann_W, size)).astype(np.float32)
    return magnitudes


def mu_law(samples_T: Samples, rate: int, *, bits_a_second: float, bits: int) -> Samples:
    """Returns the sound after mu-law of ``bits`` a sample, at as low a sample rate as ``bits_a_second`` leaves it."""
    low = min(bits_a_second / bits, rate)
    heard = np.clip(soxr.resample(samples_T, rate, low, quality="VHQ"), -1, 1)
    levels = 2**bits - 1
    pressed = np.sign(heard) * np.log1p(_MU * np.abs(heard)) / np.log1p(_MU)
    rounded = np.round((pressed + 1) / 2 * levels) / levels * 2 - 1
    opened = np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(_MU)) / _MU
    whole = soxr.resample(opened.astype(np.float32), low, rate, quality="VHQ")[: len(samples_T)]
    return np.pad(whole, (0, len(samples_T) - len(whole))).astype(np.float32)


def level_db(samples_T: Samples) -> float:
    """Returns the RMS in dB against full scale, -120 at the lowest."""
    return float(20 * np.log10(max(float(np.sqrt(np.mean(np.square(samples_T, dtype=np.float64)))), 1e-6)))


def clipped_share(samples_T: Samples) -> float:
    """Returns the share of samples at full scale or beyond."""
    return float(np.mean(np.abs(samples_T) >= _FULL_SCALE))


def tempo(samples_T: Samples, rate: int) -> float:
    """Returns beats a minute: the period after which onsets recur best, the nearest to a usual one of its octaves."""
    levels_SF = np.log10(spectrogram(samples_T, _FLUX_FFT, _FLUX_HOP, _FLUX_FFT) + 1e-3)
    flux_S = np.maximum(np.diff(levels_SF, axis=0), 0).mean(axis=1)
    flux_S = flux_S - flux_S.mean()
    power = np.abs(np.fft.rfft(flux_S, 2 * len(flux_S))) ** 2
    recurring = np.fft.irfft(power)[: len(flux_S)] / np.arange(len(flux_S), 0, -1)
    a_minute = 60 * rate / _FLUX_HOP
    lags = np.arange(int(a_minute / _TEMPOS[1]), min(int(a_minute / _TEMPOS[0]), len(flux_S) - 2) + 1)
    usual = np.exp(-0.5 * (np.log2(a_minute / lags / _USUAL_TEMPO) / _TEMPO_OCTAVES) ** 2)
    best = int(lags[np.argmax(recurring[lags] * usual)])
    before, here, after = recurring[best - 1 : best + 2]
    bend = before - 2 * here + after
    return float(a_minute / (best + (0.5 * (before - after) / bend if bend < 0 else 0)))


def key(samples_T: Samples, rate: int) -> Key:
    """Returns the key that the sound's pitches fit best (Krumhansl and Schmuckler)."""
    magnitudes_SF = spectrogram(samples_T, _CHROMA_FFT, _CHROMA_HOP, _CHROMA_FFT)
    hertz_F = np.fft.rfftfreq(_CHROMA_FFT, 1 / rate)
    heard = (hertz_F >= _CHROMA_HZ[0]) & (hertz_F <= _CHROMA_HZ[1])
    pitches = np.round(69 + 12 * np.log2(hertz_F[heard] / 440)).astype(int) % 12
    chroma = np.bincount(pitches, weights=magnitudes_SF[:, heard].mean(axis=0), minlength=12)
    fits = [
        Key(tonic, minor, float(np.corrcoef(np.roll(profile, tonic), chroma)[0, 1]) if chroma.std() else 0.0)
        for minor, profile in ((False, _MAJOR), (True, _MINOR))
        for tonic in range(12)
    ]
    return max(fits, key=lambda each: each.fit)
