"""Notes of General MIDI as sound, played by the composer's instruments. Imports no torch.

The instruments are a sketch, not a sound font: a kind of tone for each class of programs, and three drums. They are
enough to hear which notes were found, when, and by what kind of instrument.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.composer.instruments import drum, tone
from jukebox_core.composer.render import LEVEL, soft_clip
from jukebox_core.composer.styles import ARTISTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from jukebox_core.composer.styles import Drum, Sound
    from jukebox_core.notes.note import Note

_DRUM_GAIN, _BASS_GAIN = 1.5, 1.2
_STEP = 0.01  # seconds: lengths are rounded to it, so that notes share their sounds
_KICKS = {35, 36, 41, 43, 45}  # and low toms
_SNARES = {37, 38, 39, 40, 47, 48, 50}  # and high toms
# By class of 8 programs, each an artist and its part.
_CLASSES = (
    ("piano and voice", "melody"),  # piano
    ("drums and bass", "melody"),  # chromatic percussion
    ("organ", "melody"),
    ("guitar and voice", "melody"),
    ("drums and bass", "bass"),
    ("string quartet", "melody"),  # strings
    ("string quartet", "chords"),  # ensemble
    ("brass band", "melody"),  # brass
    ("brass band", "melody"),  # reed
    ("synthesizer", "chords"),  # pipe
    ("synthesizer", "melody"),  # synth lead
    ("synthesizer", "chords"),  # synth pad
    ("synthesizer", "chords"),  # synth effects
    ("guitar and voice", "melody"),  # ethnic
    ("drums and bass", "melody"),  # percussive
    ("synthesizer", "melody"),  # sound effects
)
_SINGLE = {10: ("music box", "melody"), 58: ("brass band", "bass")}


def play(notes: Iterable[Note], seconds: float, rate: int) -> NDArray[np.float32]:
    """Returns notes as sound, float32 [time] within (-1, 1), at the level of composed songs; silence without notes.

    Notes of one program, pitch and length are one sound, which is computed once and not kept.

    Args:
        notes: those that begin within the time.
        seconds: length of the sound.
        rate: sample rate in Hz.
    """
    out = np.zeros(max(1, round(seconds * rate)), np.float32)
    for sound_key, group in groupby(sorted(notes, key=_sound_key), key=_sound_key):
        sound = _sound(*sound_key, rate)
        for note in group:
            room = out[round(note.start * rate) :][: len(sound)]
            room += sound[: len(room)] * np.float32(note.velocity / 127)
    power = float(np.mean(np.square(out, dtype=np.float64)))
    return soft_clip(out * np.float32(LEVEL / np.sqrt(power))) if power > 0 else out


def _sound_key(note: Note) -> tuple[bool, int, int, int]:
    if note.is_drum:
        return True, note.pitch, 0, 0
    return False, note.pitch, note.program, max(1, round((note.end - note.start) / _STEP))


def _sound(is_drum: bool, pitch: int, program: int, steps: int, rate: int) -> NDArray[np.float32]:
    if is_drum:
        return drum(_drum(pitch), rate, electronic=False) * np.float32(_DRUM_GAIN)
    gain = _BASS_GAIN if program // 8 == 4 else 1.0
    uncached = tone.__wrapped__  # a recording has thousands of lengths, whose sounds would fill the memory
    sound: NDArray[np.float32] = uncached(instrument(program), pitch, round(steps * _STEP * rate), rate)
    return sound * np.float32(gain)


def instrument(program: int) -> Sound:
    """Returns the composer's sound for a General MIDI program, 0 to 127."""
    artist, part = _SINGLE.get(program, _CLASSES[program // 8])
    sound: Sound = getattr(ARTISTS[artist], part)
    return sound


def _drum(key: int) -> Drum:
    return "kick" if key in _KICKS else "snare" if key in _SNARES else "hat"
