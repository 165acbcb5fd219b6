"""Metrics of audio: distances, level, clipping, noise between partials, treble, key, held tones. Imports no torch.

Legend: T samples of time, S spectrogram frames, F frequency bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soxr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

RESOLUTIONS = ((2048, 240, 1200), (1024, 120, 600), (512, 50, 240))  # FFT size, hop and window, in samples
MU_LAW_BITS = tuple(range(2, 9))  # per sample

_MU = 255
_FLOOR_DB = 60.0  # below the loudest bin; lower levels are clamped to it
_FULL_SCALE = 0.999
_PARTIALS_FFT, _PARTIALS_HOP = 4096, 1024
_PARTIALS_HZ = (100.0, 4000.0)
_HEARD_DB = 40.0  # below the loudest frame; others are left out of what is measured between partials
_BLACKMAN_HARRIS = (0.35875, -0.48829, 0.14128, -0.01168)  # a window whose side lobes are below -92 dB
_TREBLE_HZ = 4000.0
HELD_SECONDS = 1.5  # for which one pitch is dominant in a held tone
_SAME_SHARE = 0.9  # of the frames of a held tone, which have its pitch
_CHROMA_FFT, _CHROMA_HOP = 8192, 2048
_CHROMA_HZ = (60.0, 2000.0)
# Key profiles: how well each semitone above the tonic fits a key (Krumhansl and Kessler, 1982).
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


class Key(NamedTuple):
    """An estimated key."""

    tonic: int  # 0 is C
    minor: bool
    fit: float  # correlation with the key's profile, -1 to 1


def si_sdr(target_T: Samples, found_T: Samples) -> float:
    """Returns the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019); higher is closer."""
    target, found = target_T.astype(np.float64), found_T.astype(np.float64)
    target, found = target - target.mean(), found - found.mean()
    aligned = target * (found @ target / max(target @ target, 1e-12))
    residue = found - aligned
    return float(10 * np.log10(max(aligned @ aligned, 1e-12) / max(residue @ residue, 1e-12)))


def spectral_distance(target_T: Samples, found_T: Samples) -> float:
    """Returns the mean absolute difference of log spectrograms in dB, over three resolutions; lower is closer.

    Bins more than 60 dB below the target's loudest are clamped to that floor.
    """
    distances = []
    for size, hop, window in RESOLUTIONS:
        target_SF, found_SF = (spectrogram(each, size, hop, window) for each in (target_T, found_T))
        floor = max(float(target_SF.max()), 1e-9) * 10 ** (-_FLOOR_DB / 20)
        distances.append(np.abs(20 * np.log10(np.maximum(target_SF, floor) / np.maximum(found_SF, floor))).mean())
    return float(np.mean(distances))


def spectrogram(samples_T: Samples, size: int, hop: int, window: int) -> NDArray[np.float32]:
    """Returns the magnitudes [S, F] of a short-time Fourier transform with a Hann window and zero padding."""
    padded = np.pad(samples_T, window // 2)
    frames_SW = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    hann_W = np.hanning(window + 1)[:-1].astype(np.float32)
    magnitudes: NDArray[np.float32] = np.abs(np.fft.rfft(frames_SW * hann_W, size)).astype(np.float32)
    return magnitudes


def mu_law(samples_T: Samples, rate: int, *, bits_per_second: float, bits: int) -> Samples:
    """Returns the audio after mu-law coding with ``bits`` per sample, downsampled to ``bits_per_second``; [T]."""
    low = min(bits_per_second / bits, rate)
    resampled = np.clip(soxr.resample(samples_T, rate, low, quality="VHQ"), -1, 1)
    levels = 2**bits - 1
    compressed = np.sign(resampled) * np.log1p(_MU * np.abs(resampled)) / np.log1p(_MU)
    rounded = np.round((compressed + 1) / 2 * levels) / levels * 2 - 1
    expanded = np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(_MU)) / _MU
    decoded = soxr.resample(expanded.astype(np.float32), low, rate, quality="VHQ")[: len(samples_T)]
    return np.pad(decoded, (0, len(samples_T) - len(decoded))).astype(np.float32)


def level_db(samples_T: Samples) -> float:
    """Returns the RMS in dB relative to full scale, at least -120."""
    return float(20 * np.log10(max(float(np.sqrt(np.mean(np.square(samples_T, dtype=np.float64)))), 1e-6)))


def clipped_share(samples_T: Samples) -> float:
    """Returns the share of samples at full scale or beyond."""
    return float(np.mean(np.abs(samples_T) >= _FULL_SCALE))


def key(samples_T: Samples, rate: int) -> Key:
    """Returns the key whose profile the chroma fits best (Krumhansl and Schmuckler)."""
    chroma = chromagram(samples_T, rate).mean(axis=0)
    fits = [
        Key(tonic, minor, float(np.corrcoef(np.roll(profile, tonic), chroma)[0, 1]) if chroma.std() else 0.0)
        for minor, profile in ((False, _MAJOR), (True, _MINOR))
        for tonic in range(12)
    ]
    return max(fits, key=lambda each: each.fit)


def chromagram(samples_T: Samples, rate: int) -> NDArray[np.float64]:
    """Returns the magnitude of each of the 12 pitch classes, C first, in each frame, 2,048 apart: [S, 12]."""
    magnitudes_SF = spectrogram(samples_T, _CHROMA_FFT, _CHROMA_HOP, _CHROMA_FFT)
    in_range, semitones = _semitones(rate)
    classes_F12 = np.eye(12)[semitones % 12]
    found: NDArray[np.float64] = magnitudes_SF[:, in_range] @ classes_F12
    return found


def chroma_correlation(one_T: Samples, other_T: Samples, rate: int) -> float:
    """Returns the correlation of the chromagrams of two pieces of equal length, -1 to 1; 0 if one is silent."""
    one, other = chromagram(one_T, rate).ravel(), chromagram(other_T, rate).ravel()
    if not one.std() or not other.std():
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def held_share(samples_T: Samples, rate: int, seconds: float = HELD_SECONDS) -> float:
    """Returns the share of time, 0 to 1, in held tones: `seconds` and more with one semitone as the loudest partial.

    One frame of ten may have another, as drums give it. Frames 60 dB below the loudest are not part of a tone.
    """
    in_range, semitones = _semitones(rate)
    magnitudes_SF = spectrogram(samples_T, _CHROMA_FFT, _CHROMA_HOP, _CHROMA_FFT)[:, in_range]
    peaks_S = magnitudes_SF.max(axis=1)
    heard_S = peaks_S > peaks_S.max() * 10 ** (-_FLOOR_DB / 20)
    loudest_S = np.where(heard_S, semitones[magnitudes_SF.argmax(axis=1)], -1)
    width = int(np.ceil(seconds * rate / _CHROMA_HOP))
    held_S = np.zeros(len(loudest_S), bool)
    if len(loudest_S) < width:
        return 0.0
    for pitch in np.unique(loudest_S[heard_S]):
        counts = np.convolve(loudest_S == pitch, np.ones(width, int), "valid")
        for first in np.flatnonzero(counts >= _SAME_SHARE * width):
            held_S[first : first + width] = True
    return float((held_S & heard_S).mean())


def between_partials_db(samples_T: Samples, rate: int) -> float:
    """Returns the level between partials in dB below the loudest one: the median bin from 100 to 4,000 Hz.

    It is the mean over frames of 4,096 samples that are heard. Sums of steady partials have -60 or less, white noise
    has about -10. Silence, and audio shorter than a frame, have 0.
    """
    if len(samples_T) < _PARTIALS_FFT:
        return 0.0
    turns = np.arange(_PARTIALS_FFT) * 2 * np.pi / _PARTIALS_FFT
    window = sum(share * np.cos(order * turns) for order, share in enumerate(_BLACKMAN_HARRIS))
    frames = np.lib.stride_tricks.sliding_window_view(samples_T, _PARTIALS_FFT)[::_PARTIALS_HOP]
    hertz_F = np.fft.rfftfreq(_PARTIALS_FFT, 1 / rate)
    in_range = (hertz_F >= _PARTIALS_HZ[0]) & (hertz_F <= _PARTIALS_HZ[1])
    magnitudes_SF = np.abs(np.fft.rfft(frames * window))[:, in_range]
    peaks_S = magnitudes_SF.max(axis=1)
    heard_S = peaks_S > peaks_S.max() * 10 ** (-_HEARD_DB / 20)
    if not heard_S.any():
        return 0.0
    between_S = np.maximum(np.median(magnitudes_SF[heard_S], axis=1), 1e-9)
    return float(20 * np.log10(between_S / peaks_S[heard_S]).mean())


def treble_db(samples_T: Samples, rate: int) -> float:
    """Returns the energy above 4 kHz in dB relative to all energy, at least -120."""
    power_F = np.abs(np.fft.rfft(samples_T.astype(np.float64))) ** 2
    above = power_F[np.fft.rfftfreq(len(samples_T), 1 / rate) > _TREBLE_HZ].sum()
    return float(10 * np.log10(max(above / max(power_F.sum(), 1e-12), 1e-12)))


def _semitones(rate: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Returns which bins of a chroma spectrogram are used, bool [F], and the semitone (MIDI number) of each."""
    hertz_F = np.fft.rfftfreq(_CHROMA_FFT, 1 / rate)
    in_range = (hertz_F >= _CHROMA_HZ[0]) & (hertz_F <= _CHROMA_HZ[1])
    return in_range, np.round(69 + 12 * np.log2(hertz_F[in_range] / 440)).astype(int)
