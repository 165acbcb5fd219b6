"""Plays a score: every note's sound at its time and place, at a common level. Imports no torch."""

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

_PLACES = {"voice": 0.5, "melody": 0.5, "chords": 0.32, "bass": 0.5, "kick": 0.5, "snare": 0.56, "hat": 0.68}
_KNEE = 0.6  # above it peaks are rounded off; they never reach full scale
_VOICE_GAIN = 1.1
_DRUM_GAIN = 1.5


def render(score: Score, rate: int, *, channels: int = 1, levelled_by: float | None = None) -> NDArray[np.float32]:
    """Returns a song's sound, float32 [time, channels], within (-1, 1), with 16 bits of precision.

    Args:
        score: the song.
        rate: samples a second.
        channels: 1 or 2.
        levelled_by: seconds from the start that are brought to the common level; None: the whole song.

    Raises:
        LabelError: an artist that the composer does not know.
    """
    out = np.zeros((int((score.seconds + TAIL_SECONDS) * rate), channels), np.float32)
    _play(out, score, rate)
    heard = out if levelled_by is None else out[: int(levelled_by * rate)]
    power = float(np.mean(np.square(heard, dtype=np.float64)))
    out *= np.float32(LEVEL / max(np.sqrt(power), 1e-9))
    # Sines differ between machines in their last bits; 16 bits, as a file has, make the sound the same everywhere.
    levels: NDArray[np.float32] = (np.round(_rounded_off(out) * 32767) / 32768).astype(np.float32)
    return levels


def _play(out: NDArray[np.float32], score: Score, rate: int) -> None:
    artist = artist_of(score.artist)
    sounds = {"melody": artist.melody, "chords": artist.chords, "bass": artist.bass}
    loud = {"melody": artist.melody_level, "chords": artist.chords_level, "bass": artist.bass_level}
    for note in score.notes:
        sound = tone(sounds[note.part], note.pitch, round(note.length * rate), rate)
        _add(out, note.start, sound, loud[note.part] * note.loudness, _PLACES[note.part], rate)
    if artist.drums_level:
        for hit in score.hits:
            sound = drum(hit.drum, rate, electronic=artist.electronic)
            _add(out, hit.start, sound, _DRUM_GAIN * artist.drums_level * hit.loudness, _PLACES[hit.drum], rate)
    for each in score.letters:
        sound = letter(each.character, each.pitch, round(each.length * rate), rate)
        _add(out, each.start, sound, _VOICE_GAIN * artist.voice_level, _PLACES["voice"], rate)


def _add(
    out: NDArray[np.float32], start: float, sound: NDArray[np.float32], gain: float, place: float, rate: int
) -> None:
    """Adds a sound at a place from 0 (left) to 1 (right), equally loud wherever it stands."""
    first = round(start * rate)
    room = out[first : first + len(sound)]
    sides = (1.0,) if out.shape[1] == 1 else (np.sqrt(2 * (1 - place)), np.sqrt(2 * place))
    for channel, side in enumerate(sides):
        room[:, channel] += sound[: len(room)] * np.float32(gain * side)


def _rounded_off(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the samples with peaks above the knee bent towards full scale."""
    beyond = np.maximum(np.abs(samples) - _KNEE, 0)
    bent = _KNEE + (1 - _KNEE) * np.tanh(beyond / (1 - _KNEE))
    return np.where(beyond > 0, np.sign(samples) * bent, samples)
