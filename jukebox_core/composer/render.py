"""Renders a score to audio: every note's sound at its time and stereo position, at a common level. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.composer.instruments import drum, letter, tone
from jukebox_core.composer.score import TAIL_SECONDS
from jukebox_core.composer.styles import artist_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jukebox_core.composer.score import Score

LEVEL = 0.1  # RMS of a song: 20 dB below full scale

_PANNING = {"voice": 0.5, "melody": 0.5, "chords": 0.32, "bass": 0.5, "kick": 0.5, "snare": 0.56, "hat": 0.68}
_KNEE = 0.6  # of the soft clipping, which keeps peaks below full scale
_VOICE_GAIN = 1.1
_DRUM_GAIN = 1.5


def render(score: Score, rate: int, *, channels: int = 1, level_seconds: float | None = None) -> NDArray[np.float32]:
    """Returns a song's audio, float32 [time, channels], within (-1, 1), rounded to 16 bits.

    Args:
        score: the song.
        rate: sample rate in Hz.
        channels: 1 or 2.
        level_seconds: seconds from the start whose RMS is normalised to `LEVEL`; None: the whole song.

    Raises:
        LabelError: an unknown artist.
    """
    out = np.zeros((int((score.seconds + TAIL_SECONDS) * rate), channels), np.float32)
    _mix(out, score, rate)
    measured = out if level_seconds is None else out[: int(level_seconds * rate)]
    power = float(np.mean(np.square(measured, dtype=np.float64)))
    out *= np.float32(LEVEL / max(np.sqrt(power), 1e-9))
    # Sines differ between machines in their last bits; rounding to 16 bits makes the audio reproducible everywhere.
    levels: NDArray[np.float32] = (np.round(soft_clip(out) * 32767) / 32768).astype(np.float32)
    return levels


def _mix(out: NDArray[np.float32], score: Score, rate: int) -> None:
    artist = artist_of(score.artist)
    sounds = {"melody": artist.melody, "chords": artist.chords, "bass": artist.bass}
    loud = {"melody": artist.melody_level, "chords": artist.chords_level, "bass": artist.bass_level}
    for note in score.notes:
        sound = tone(sounds[note.part], note.pitch, round(note.length * rate), rate)
        _add(out, note.start, sound, loud[note.part] * note.loudness, _PANNING[note.part], rate)
    if artist.drums_level:
        for hit in score.hits:
            sound = drum(hit.drum, rate, electronic=artist.electronic)
            _add(out, hit.start, sound, _DRUM_GAIN * artist.drums_level * hit.loudness, _PANNING[hit.drum], rate)
    for each in score.letters:
        sound = letter(each.character, each.pitch, round(each.length * rate), rate)
        _add(out, each.start, sound, _VOICE_GAIN * artist.voice_level, _PANNING["voice"], rate)


def _add(
    out: NDArray[np.float32], start: float, sound: NDArray[np.float32], gain: float, panning: float, rate: int
) -> None:
    """Adds a sound, panned from 0 (left) to 1 (right) with constant power."""
    first = round(start * rate)
    room = out[first : first + len(sound)]
    sides = (1.0,) if out.shape[1] == 1 else (np.sqrt(2 * (1 - panning)), np.sqrt(2 * panning))
    for channel, side in enumerate(sides):
        room[:, channel] += sound[: len(room)] * np.float32(gain * side)


def soft_clip(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the samples with peaks above the knee compressed below full scale."""
    beyond = np.maximum(np.abs(samples) - _KNEE, 0)
    bent = _KNEE + (1 - _KNEE) * np.tanh(beyond / (1 - _KNEE))
    return np.where(beyond > 0, np.sign(samples) * bent, samples)
