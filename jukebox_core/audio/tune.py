"""A short tune made of sines and noise, ours to ship: the demo's prompt. Imports no torch.

Four chords, a bass that walks with them, a plucked melody from the chord and its scale, and soft drums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TUNE_SECONDS = 8.0  # once through the four chords

_BEAT = 0.5  # seconds
_BAR = 4 * _BEAT
_PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 1, 4))  # roots, as steps of the major scale
_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_RHYTHMS = ((0, 1, 1.5, 2, 3), (0, 0.5, 1.5, 2.5, 3), (0, 1, 2, 2.5, 3, 3.5))  # onsets of melody notes, in beats
_MELODY_RANGE = (2, 11)  # steps of the scale above the tonic


def tune(seconds: float, rate: int, seed: int = 0) -> NDArray[np.float32]:
    """The first ``seconds`` of the tune of that seed: mono float32 [T] at ``rate`` Hz, within [-1, 1].

    It goes on for as long as is asked, and a shorter one is the beginning of a longer one.

    Raises:
        AudioError: `seconds` or `rate` is not positive.
    """
    if seconds <= 0 or rate <= 0:
        raise AudioError(f"cannot play {seconds} s at {rate} Hz; both must be positive")
    out = np.zeros(int(seconds * rate + 1e-6))
    rng = np.random.default_rng(seed)
    tonic = 57 + int(rng.integers(-3, 4))  # MIDI note of the key, about A3
    roots = _PROGRESSIONS[int(rng.integers(len(_PROGRESSIONS)))]
    noise = rng.standard_normal(rate // 5)
    step = 7
    for bar in range(int(np.ceil(seconds / _BAR))):
        root, start = roots[bar % 4], bar * _BAR
        for third in (0, 2, 4):
            _add(out, rate, start, 0.07 * _pad(_pitch(tonic, (root + third) % 7), rate))
        for beat, bass in ((0, 0), (1.5, 0), (2, 4), (3, 2)):
            _add(out, rate, start + beat * _BEAT, 0.20 * _pluck(_pitch(tonic - 24, root + bass), rate, 0.35, 3))
        rhythm = _RHYTHMS[int(rng.integers(len(_RHYTHMS)))]
        for beat in rhythm:
            step = _next_step(rng, step, root, strong=beat % 2 == 0)
            _add(out, rate, start + beat * _BEAT, 0.17 * _pluck(_pitch(tonic, step), rate, 0.5, 6))
        _drums(out, rate, start, noise)
    # Sines differ between machines in their last bits; 16 bits, as a wav file has, make the prompt the same everywhere.
    return (np.round(np.tanh(out) * 32767) / 32768).astype(np.float32)


def _next_step(rng: np.random.Generator, step: int, root: int, *, strong: bool) -> int:
    """A neighbouring step of the scale; on strong beats the nearest one that belongs to the chord."""
    step = int(np.clip(step + rng.integers(-2, 3), *_MELODY_RANGE))
    chord = [each for each in range(_MELODY_RANGE[0], _MELODY_RANGE[1] + 1) if (each - root) % 7 in (0, 2, 4)]
    return min(chord, key=lambda each: abs(each - step)) if strong else step


def _pitch(tonic: int, step: int) -> float:
    """Hertz of a step of the major scale on MIDI note ``tonic``."""
    octave, degree = divmod(step, 7)
    return float(440 * 2 ** ((tonic + 12 * octave + _MAJOR[degree] - 69) / 12))


def _partials(hertz: float, rate: int, duration: float, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Time, and a tone of ``count`` partials, each fainter than the one below, none beyond what the rate can carry."""
    t = np.arange(int(duration * rate)) / rate
    tone = sum((np.sin(2 * np.pi * k * hertz * t) / k**2 for k in range(1, count + 1) if k * hertz < rate / 2), 0 * t)
    return t, tone


def _pluck(hertz: float, rate: int, decay: float, partials: int) -> NDArray[np.float64]:
    t, tone = _partials(hertz, rate, 3 * decay, partials)
    return tone * np.minimum(t / 0.004, 1) * np.exp(-t / decay) * np.minimum((3 * decay - t) / 0.05, 1)


def _pad(hertz: float, rate: int) -> NDArray[np.float64]:
    t, tone = _partials(hertz, rate, _BAR, 4)
    return tone * np.minimum(t / 0.15, 1) * np.minimum((_BAR - t) / 0.25, 1) * (1 + 0.15 * np.sin(2 * np.pi * 4.5 * t))


def _drums(out: NDArray[np.float64], rate: int, start: float, noise: NDArray[np.float64]) -> None:
    t = np.arange(len(noise)) / rate
    kick = np.sin(2 * np.pi * (50 * t + 4 * (1 - np.exp(-t / 0.03)))) * np.exp(-t / 0.07)
    hat = np.diff(noise, prepend=0.0) * np.exp(-t / 0.02)
    brush = noise * np.exp(-t / 0.05) * np.minimum(t / 0.005, 1)
    for beat in (0, 2, 2.5):
        _add(out, rate, start + beat * _BEAT, 0.35 * kick)
    for beat in (1, 3):
        _add(out, rate, start + beat * _BEAT, 0.035 * brush)
    for half in range(8):
        _add(out, rate, start + half * _BEAT / 2, (0.014 if half % 2 else 0.022) * hat)


def _add(out: NDArray[np.float64], rate: int, start: float, sound: NDArray[np.float64]) -> None:
    first = round(start * rate)
    room = out[first : first + len(sound)]
    room += sound[: len(room)]
