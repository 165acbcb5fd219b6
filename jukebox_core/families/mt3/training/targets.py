"""Targets of excerpts: the ids of each segment, and the notes of each frame. Imports no torch.

Legend: S segments, F frames, K kinds of what a frame holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.families.mt3.config import FrontEndConfig
from jukebox_core.families.mt3.events.encoding import encode
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.notes.note import Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from jukebox_core.families.mt3.config import MT3Network

# First of the kinds: pitch that sounds, starts, ends; drum; program that sounds, starts.
SOUNDING, ONSET, END, DRUM, PROGRAM, ENTRY = range(0, 6 * 128, 128)
FRAME_KINDS = 6 * 128
EDGES = slice(ONSET, DRUM + 128)  # kinds of single frames, which are rare


def mel_front_end(network: MT3Network) -> FrontEndConfig:
    """Returns the front end of a model that can be trained; `MT3Training.check` refuses others."""
    assert isinstance(network.front_end, FrontEndConfig), "checked before a training"
    return network.front_end


def moved(notes: Iterable[Note], start: float, seconds: float, speed: float, semitones: int) -> list[Note]:
    """Returns the notes of an excerpt that begins at `start`, played `speed` times as fast, when it lasts `seconds`.

    Notes of the excerpt's length before it and after it are kept. Pitched notes are transposed, and left out if they
    leave the range of MIDI.
    """
    found = []
    first, stop = start - seconds * speed, start + 2 * seconds * speed
    for note in notes:
        if note.end <= first or note.start >= stop:
            continue
        pitch = note.pitch if note.is_drum else note.pitch + semitones
        if 0 <= pitch < 128:
            times = ((note.start - start) / speed, (note.end - start) / speed)
            found.append(Note(*times, pitch, note.velocity, note.program, note.is_drum))
    return found


def segment_ids(network: MT3Network, notes: Sequence[Note], segments: int) -> list[list[int]]:
    """Returns the ids of the first `segments` segments, each with its end of sequence.

    Args:
        network: the model's sizes.
        notes: without overlaps; times in seconds from the start of the first segment, before which they may begin.
        segments: number of segments.
    """
    front_end = mel_front_end(network)
    size = front_end.segment_samples / front_end.sample_rate
    inside = [note for note in notes if note.start < (segments + 1) * size and note.end > -size]
    # One segment more, which receives the events after the last one.
    indices = encode(network.vocabulary, front_end, inside, (segments + 1) * front_end.segment_frames)[:segments]
    known = vocabulary_of(network.vocabulary)
    return [known.to_ids(each) for each in indices]


def frame_kinds(network: MT3Network, notes: Sequence[Note], segments: int) -> NDArray[np.bool_]:
    """Returns what each frame of `segments` segments holds, [S, F, K]: the events' own times, not those of windows."""
    front_end = mel_front_end(network)
    frames = segments * front_end.segment_frames
    found = np.zeros((frames, FRAME_KINDS), np.bool_)
    rate = front_end.sample_rate / front_end.hop
    for note in notes:
        start, stop = round(note.start * rate), round(note.end * rate)
        if stop < 0 or start >= frames:
            continue
        if note.is_drum:
            if start >= 0:
                found[start, DRUM + note.pitch] = True
            continue
        sounding = slice(max(start, 0), max(stop, start + 1, 0))
        found[sounding, SOUNDING + note.pitch] = True
        found[sounding, PROGRAM + note.program] = True
        if start >= 0:
            found[start, [ONSET + note.pitch, ENTRY + note.program]] = True
        if stop < frames:
            found[stop, END + note.pitch] = True
    return found.reshape(segments, front_end.segment_frames, FRAME_KINDS)
