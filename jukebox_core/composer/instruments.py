"""Sounds of single notes, drums and sung letters, with reverberation. Imports no torch.

A sound is rendered once per pitch and length, and cached: songs of one tempo share most of their sounds. Reverberation
is linear, so it is applied to each cached sound instead of to the mix.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.composer.score import letter_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jukebox_core.composer.styles import Drum, Sound

    Samples = NDArray[np.float32]

_CACHED = 4096  # sounds, some 60 KB each
_ROOM_SECONDS = 0.45
_ROOM_LEVEL = 0.22  # of the reverberation, relative to the dry sound
_HIGHEST = 0.45  # frequency limit of partials, relative to the sample rate

# Formants in Hz, and loudness.
_VOWELS = {
    "a": ((800, 1250, 2600), 1.0),
    "e": ((480, 1950, 2600), 0.95),
    "i": ((290, 2300, 3100), 0.9),
    "o": ((480, 850, 2500), 1.0),
    "u": ((320, 700, 2300), 0.95),
}
_HUMS = {
    "m": (250, 800, 2100),
    "n": (270, 1250, 2000),
    "l": (360, 1300, 2800),
    "r": (480, 1350, 1700),
    "w": (300, 620, 2200),
    "y": (280, 2150, 2900),
}
_HISSES = {"s": 6000.0, "z": 5500.0, "x": 5000.0, "f": 4000.0, "v": 3000.0, "h": 1500.0, "c": 4500.0, "j": 2600.0}  # Hz
_BURSTS = {"t": 4500.0, "d": 3500.0, "k": 2000.0, "g": 1700.0, "q": 2000.0, "p": 900.0, "b": 700.0}  # Hz
_SCHWA = (500, 1450, 2500)


@lru_cache(_CACHED)
def tone(sound: Sound, pitch: int, samples: int, rate: int) -> Samples:
    """Returns a note of an instrument, float32 [time]: ``samples`` up to the release, then its decay."""
    hertz = _hertz(pitch + 12 * sound.octaves)
    t = _times(samples + int(sound.release * rate), rate)
    phase = 2 * np.pi * hertz * t
    if sound.vibrato:
        # The vibrato fades in, as players do it.
        depth = sound.vibrato * np.minimum(t / 0.3, 1)
        phase = phase + depth * hertz / 5.5 * np.sin(2 * np.pi * 5.5 * t)
    out = np.zeros(len(t), np.float32)
    for k, amplitude in enumerate(sound.partials, 1):
        ratio = k * np.sqrt(1 + sound.stretch * k * k)
        if amplitude and ratio * hertz < _HIGHEST * rate:
            partial = np.float32(amplitude) * np.sin(np.float32(ratio) * phase)
            out += partial if sound.decay is None else partial * np.exp(t * (-(k**sound.damping) / sound.decay))
    out /= np.float32(np.sqrt(sum(amplitude**2 for amplitude in sound.partials)))
    if sound.noise:
        out += _noise(len(t), f"{pitch}") * np.exp(t / np.float32(-0.025)) * np.float32(sound.noise)
    return _reverberate(out * _envelope(t, sound.attack, sound.release), rate)


@lru_cache(_CACHED)
def letter(character: str, pitch: int, samples: int, rate: int) -> Samples:
    """Returns a sung letter, float32 [time], of ``samples`` before reverberation.

    A vowel has its own formants; a consonant hums, hisses or bursts before an open vowel. Digits sound like ``u``.
    """
    t = _times(samples, rate)
    if character in _VOWELS or not character.isalpha():
        formants, loudness = _VOWELS.get(character, _VOWELS["u"])
        sung = _sung(pitch, t, rate, formants) * np.float32(loudness)
    elif character in _HUMS:
        sung = _sung(pitch, t, rate, _HUMS[character]) * np.float32(0.8)
    else:
        onset, hertz = (0.09, _HISSES[character]) if character in _HISSES else (0.03, _BURSTS[character])
        fade_in = np.clip((t - np.float32(onset * 0.7)) / np.float32(0.02), 0, 1)
        sung = _sung(pitch, t, rate, _SCHWA) * np.float32(0.8) * fade_in
        sung += _hiss(hertz, t, onset, rate, str(letter_number(character)))
    return _reverberate(sung * _envelope(t, 0.012, 0.03), rate)


@lru_cache(64)
def drum(name: Drum, rate: int, *, electronic: bool) -> Samples:
    """Returns one hit of a drum, float32 [time]."""
    t = _times(int(0.25 * rate), rate)
    if name == "kick":
        depth = 5.0 if electronic else 3.5
        out = np.sin(2 * np.pi * (48 * t + depth * (1 - np.exp(-t / 0.03)) * 0.35)) * np.exp(-t / 0.08)
    elif name == "snare":
        body = 0.5 * np.sin(2 * np.pi * (240 if electronic else 185) * t) * np.exp(-t / 0.05)
        out = body + 0.45 * _noise(len(t), name) * np.exp(-t / (0.06 if electronic else 0.085))
    else:
        out = 0.3 * np.diff(_noise(len(t), name), prepend=np.float32(0)) * np.exp(-t / (0.02 if electronic else 0.035))
    return _reverberate((out * _envelope(t, 0.001, 0.05)).astype(np.float32), rate)


def _hertz(pitch: int) -> float:
    return float(440 * 2 ** ((pitch - 69) / 12))


def _times(samples: int, rate: int) -> Samples:
    return (np.arange(samples) / rate).astype(np.float32)


def _envelope(t: Samples, attack: float, release: float) -> Samples:
    up = np.minimum(t / np.float32(attack), 1)
    down = np.minimum((t[-1] - t) / np.float32(release), 1) if len(t) else t
    envelope: Samples = up * down
    return envelope


def _noise(samples: int, name: str) -> Samples:
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(samples, dtype=np.float32)


def _sung(pitch: int, t: Samples, rate: int, formants: tuple[int, ...]) -> Samples:
    """Returns a sustained voice: harmonics weighted by the formants."""
    hertz = _hertz(pitch)
    phase = 2 * np.pi * hertz * t + np.float32(0.02) * np.sin(np.float32(2 * np.pi * 5) * t)
    out = np.zeros(len(t), np.float32)
    power = 0.0
    for k in range(1, int(min(4200, _HIGHEST * rate) / hertz) + 1):
        gain = sum(
            share / (1 + ((k * hertz - centre) / (60 + 0.06 * centre)) ** 2)
            for centre, share in zip(formants, (1.0, 0.6, 0.35), strict=True)
        )
        amplitude = (gain + 0.03) / k**0.5
        power += amplitude**2
        out += np.float32(amplitude) * np.sin(np.float32(k) * phase)
    return out / np.float32(np.sqrt(power))


def _hiss(hertz: float, t: Samples, seconds: float, rate: int, name: str) -> Samples:
    """Returns noise around a frequency that decays within ``seconds``."""
    centre = min(hertz, 0.4 * rate)
    slow = np.convolve(_noise(len(t), name), np.ones(6, np.float32) / 6, mode="same")
    hiss: Samples = slow * np.sin(np.float32(2 * np.pi * centre) * t) * np.exp(t / np.float32(-seconds / 2))
    return hiss * np.float32(1.6)


@lru_cache(8)
def _impulse_response(rate: int) -> Samples:
    """Returns a room's impulse response without the direct sound: decaying noise, high frequencies first."""
    t = _times(int(_ROOM_SECONDS * rate), rate)
    rough = _noise(len(t), "room")
    smooth = np.convolve(rough, np.ones(8, np.float32) / 8, mode="same")
    tail = (smooth + 0.3 * rough * np.exp(t / np.float32(-0.06))) * np.exp(t / np.float32(-0.12))
    tail *= np.minimum(t / np.float32(0.008), 1) * (1 - t / np.float32(_ROOM_SECONDS))
    response: Samples = (tail / np.sqrt((tail**2).sum()) * np.float32(_ROOM_LEVEL)).astype(np.float32)
    return response


def _reverberate(dry: Samples, rate: int) -> Samples:
    room = _impulse_response(rate)
    length = len(dry) + len(room)
    size = 1 << (length - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(room, size), size)[:length].astype(np.float32)
    wet[: len(dry)] += dry
    return wet
