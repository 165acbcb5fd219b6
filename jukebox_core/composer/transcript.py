"""The notes of a composed song as a transcription gives them: programs, drums, sung pitches. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.composer.styles import artist_of
from jukebox_core.notes.note import Note
from jukebox_core.notes.notes import Notes

if TYPE_CHECKING:
    from jukebox_core.composer.score import Score
    from jukebox_core.composer.styles import Drum

VOICE_PROGRAM = 53  # voice oohs: one singer
DRUM_KEYS: dict[Drum, int] = {"kick": 36, "snare": 38, "hat": 42}  # of General MIDI

_LOUDEST = 110  # MIDI velocity of loudness 1
_VOICE_VELOCITY = 100
_DRUM_SECONDS = 0.01  # drums have no end


def score_notes(score: Score) -> Notes:
    """Returns the notes that sound in `render(score)`: pitches as they are heard, letters as notes of a voice.

    Notes of one program and pitch may overlap, where parts play the same instrument.

    Raises:
        LabelError: an unknown artist.
    """
    artist = artist_of(score.artist)
    sounds = {"melody": artist.melody, "chords": artist.chords, "bass": artist.bass}
    found: list[Note] = []
    for each in score.notes:
        sound = sounds[each.part]
        pitch, velocity = each.pitch + 12 * sound.octaves, _velocity(each.loudness)
        found += [Note(each.start, each.start + each.length, pitch, velocity, sound.program)]
    found += [
        Note(sung.start, sung.start + sung.length, sung.pitch, _VOICE_VELOCITY, VOICE_PROGRAM) for sung in score.letters
    ]
    for hit in score.hits if artist.drums_level else ():
        key, velocity = DRUM_KEYS[hit.drum], _velocity(hit.loudness)
        found += [Note(hit.start, hit.start + _DRUM_SECONDS, key, velocity, is_drum=True)]
    return Notes.of(found)


def _velocity(loudness: float) -> int:
    return max(1, min(127, round(_LOUDEST * loudness)))
