"""How well transcribed notes agree with reference notes, by the rules of mir_eval. Imports no torch.

A note is found if its pitch is right and its onset within 50 ms; with offsets, its end too must be within 50 ms or 20 %
of the reference's length, whichever is more. Every note is matched at most once, as many as possible. An empty
reference or estimate scores 0.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jukebox_core.notes.note import Note

Granularity = Literal["flat", "midi_class", "full"]
TOLERANCE = 0.05  # seconds
_OFFSET_RATIO = 0.2  # of the reference's length


class Score(NamedTuple):
    """Agreement of an estimate with a reference, each number in [0, 1]."""

    precision: float  # share of the estimate that is right
    recall: float  # share of the reference that was found
    f1: float  # their harmonic mean


class NoteScores(NamedTuple):
    """Scores of a transcription, as the literature on multi-instrument transcription reports them."""

    onset: Score  # pitched notes of all programs together
    onset_offset: Score
    drums: Score  # drum notes, onsets
    multi_instrument: Score  # program (at the granularity asked for), onset and offset; drums by onset


def evaluate(reference: Sequence[Note], estimate: Sequence[Note], granularity: Granularity = "full") -> NoteScores:
    """Returns the scores of an estimate against a reference.

    Args:
        reference: the right notes.
        estimate: the transcribed notes.
        granularity: which programs count as equal: all (flat), those of a class of 8 (midi_class), or none (full).
    """
    pitched = [[note for note in notes if not note.is_drum] for notes in (reference, estimate)]
    drums = [[note for note in notes if note.is_drum] for notes in (reference, estimate)]
    return NoteScores(
        match(*pitched, offsets=False),
        match(*pitched, offsets=True),
        match(*drums, offsets=False),
        multi_instrument(reference, estimate, granularity),
    )


def match(reference: Sequence[Note], estimate: Sequence[Note], *, offsets: bool, tolerance: float = TOLERANCE) -> Score:
    """Returns the score of notes by pitch, onset and, with `offsets`, end; programs do not matter.

    Args:
        reference: the right notes.
        estimate: the transcribed notes.
        offsets: ends must agree too.
        tolerance: of onsets, in seconds, and the least of ends.
    """
    if not reference or not estimate:
        return Score(0.0, 0.0, 0.0)
    precision, recall, f1, _ = _mir_eval()(
        *_arrays(reference), *_arrays(estimate),
        onset_tolerance=tolerance, offset_ratio=_OFFSET_RATIO if offsets else None, offset_min_tolerance=tolerance,
    )  # fmt: skip
    return Score(float(precision), float(recall), float(f1))


def multi_instrument(
    reference: Sequence[Note], estimate: Sequence[Note], granularity: Granularity = "full", *, offsets: bool = True
) -> Score:
    """Returns the score of notes that must have the right program as well; drums are a program with onsets alone.

    Each program is matched by itself; precision is the mean over programs weighted by estimated notes, recall by
    reference notes.
    """
    programs = sorted({_program(note, granularity) for note in (*reference, *estimate)})
    right = found = 0.0
    for program in programs:
        theirs, ours = (
            [note for note in notes if _program(note, granularity) == program] for notes in (reference, estimate)
        )
        score = match(theirs, ours, offsets=offsets and not program[0])
        right += score.precision * len(ours)
        found += score.recall * len(theirs)
    precision = right / len(estimate) if estimate else 0.0
    recall = found / len(reference) if reference else 0.0
    return Score(precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0)


def _program(note: Note, granularity: Granularity) -> tuple[bool, int]:
    if note.is_drum or granularity == "flat":
        return note.is_drum, 0
    return False, note.program // 8 if granularity == "midi_class" else note.program


def _arrays(notes: Iterable[Note]) -> tuple[np.ndarray, np.ndarray]:
    """Returns intervals in seconds [notes, 2] and pitches in Hz [notes]."""
    rows = np.array([(note.start, note.end, note.pitch) for note in notes], np.float64)
    return rows[:, :2], 440.0 * 2.0 ** ((rows[:, 2] - 69.0) / 12.0)


@functools.cache
def _mir_eval() -> Callable[..., tuple[float, float, float, float]]:
    import mir_eval.transcription  # takes half a second

    found: Callable[..., tuple[float, float, float, float]] = mir_eval.transcription.precision_recall_f1_overlap
    return found
