"""One note. Imports no torch.

Times are in seconds from the start of the music. Programs are those of General MIDI, 0 to 127; a drum note has the
key of the drum as its pitch and no program.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from jukebox_core.errors import NotesError

PITCHES = PROGRAMS = 128
COLUMNS = ("start", "end", "pitch", "velocity", "program", "is_drum")


class Note(NamedTuple):
    """One note."""

    start: float  # seconds
    end: float  # seconds, after `start`
    pitch: int  # MIDI key, 60 is middle C; of a drum note the key of the drum
    velocity: int = 100  # loudness, 1 to 127
    program: int = 0  # General MIDI program, 0 to 127; without meaning for drums
    is_drum: bool = False


def checked(note: Note) -> Note:
    """Returns the note with fields of the right types.

    Raises:
        NotesError: it ends before it starts, or a field is out of range.
    """
    try:
        sound = 0 <= note.start < note.end < math.inf
        whole = all(int(value) == value for value in note[2:])
        note = Note(
            float(note.start),
            float(note.end),
            int(note.pitch),
            int(note.velocity),
            int(note.program),
            bool(note.is_drum),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise NotesError(f"{tuple(note)} is no note ({error}); give numbers: {', '.join(COLUMNS)}") from error
    if not sound:
        raise NotesError(
            f"a note lasts from {note.start} s to {note.end} s; it must start at 0 or later and end after that"
        )
    if not (whole and 0 <= note.pitch < PITCHES and 0 <= note.program < PROGRAMS and 1 <= note.velocity < 128):
        raise NotesError(
            f"a note has pitch {note.pitch}, velocity {note.velocity}, program {note.program}; pitch and program are "
            "whole numbers from 0 to 127, velocity from 1 to 127"
        )
    return note
