"""Notes to the events of segments: the targets of training, and what a perfect model would transcribe. No torch.

A segment has the sounding notes at its start (with ties), then its events in order of time; a shift gives the steps
since the start of the segment, before the first event of each new step. Velocity and program are written only when
they change within the segment.
"""

from __future__ import annotations

from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from jukebox_core.errors import NotesError
from jukebox_core.families.mt3.events.segments import start_step
from jukebox_core.families.mt3.events.vocabulary import Vocabulary, vocabulary_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jukebox_core.families.mt3.config import FrontEndConfig, VocabularyConfig
    from jukebox_core.notes.note import Note


class _Edge(NamedTuple):
    """A note's onset or, with velocity 0, its end."""

    time: float
    pitch: int
    velocity_bin: int
    program: int
    is_drum: bool


_Sounding = dict[tuple[int, int], int]  # velocity bins above 0 by (program, pitch)


class _Event(NamedTuple):
    """The indices of an edge, its step, and the notes that sound before it."""

    step: int
    indices: list[int]
    sounding: _Sounding


def trim_overlaps(notes: Iterable[Note]) -> list[Note]:
    """Returns the notes without overlaps of one pitch and program: each ends where the next one starts, at the latest.

    Events cannot express such overlaps (D11). Of notes that start together the last one is kept. The order is kept.
    """
    given = list(notes)
    found: dict[int, Note] = {}
    places = sorted(range(len(given)), key=lambda place: _voice(given[place]))
    for _, group in groupby(places, key=lambda place: _voice(given[place])):
        ordered = sorted(group, key=lambda place: given[place].start)
        for place, following in zip_longest(ordered, ordered[1:]):
            note = given[place]
            end = note.end if following is None else min(note.end, given[following].start)
            if end > note.start:
                found[place] = note._replace(end=end)
    return [found[place] for place in sorted(found)]


def encode(
    config: VocabularyConfig, front_end: FrontEndConfig, notes: Sequence[Note], frames: int, *, parity: bool = False
) -> list[list[int]]:
    """Returns the indices of events of each segment of a recording of `frames` frames.

    Args:
        config: which events there are.
        front_end: lengths of frames and segments.
        notes: in any order; those after the end of the recording are part of its last segment.
        frames: of the recording.
        parity: a segment after the last event names notes that have just ended as sounding, as upstream does (D6).

    Raises:
        NotesError: a note ends before it starts, or has no velocity.
    """
    vocabulary = vocabulary_of(config)
    events, after = _events(vocabulary, notes)
    has_ties = config.mode == "ties"
    starts = [
        start_step(frame, front_end, config.steps_per_second) for frame in range(0, frames, front_end.segment_frames)
    ]
    found = []
    for start, stop in zip_longest(starts, starts[1:]):
        inside = [event for event in events if start <= event.step and (stop is None or event.step < stop)]
        following = [event for event in events if event.step >= start]
        if following:
            sounding = following[0].sounding
        elif parity and events:
            sounding = next(event.sounding for event in events if event.step == events[-1].step)
        else:
            sounding = after
        ties = _tie_section(vocabulary, sounding) if has_ties else []
        shifted = [*ties, *with_shifts(vocabulary, [(event.step - start, event.indices) for event in inside])]
        found.append(without_repeats(vocabulary, with_granularity(vocabulary, shifted)))
    return found


def _events(vocabulary: Vocabulary, notes: Sequence[Note]) -> tuple[list[_Event], _Sounding]:
    """Returns the events of all notes in order of time, and what sounds after the last one."""
    for note in notes:
        if not (note.end > note.start and note.velocity > 0):
            raise NotesError(
                f"a note of pitch {note.pitch} lasts from {note.start} s to {note.end} s with velocity "
                f"{note.velocity}; it must end after it starts and have a velocity above 0"
            )
    sounding: _Sounding = {}
    found = []
    for edge in sorted(_edges(vocabulary, notes), key=lambda edge: edge.time):
        step = round(edge.time * vocabulary.config.steps_per_second)
        found.append(_Event(step, _indices(vocabulary, edge), sounding))
        if not edge.is_drum:
            sounding = {**sounding, (edge.program, edge.pitch): edge.velocity_bin}
            if not edge.velocity_bin:
                del sounding[edge.program, edge.pitch]
    return found, sounding


def _edges(vocabulary: Vocabulary, notes: Sequence[Note]) -> list[_Edge]:
    """Returns the ends of all notes, then their onsets; each sorted by drum, program and pitch."""
    ordered = sorted(notes, key=_voice)
    onsets = [_Edge(n.start, n.pitch, vocabulary.velocity_bin(n.velocity), n.program, n.is_drum) for n in ordered]
    if vocabulary.config.mode == "onsets":
        return onsets
    return [_Edge(n.end, n.pitch, 0, n.program, is_drum=False) for n in ordered if not n.is_drum] + onsets


def _indices(vocabulary: Vocabulary, edge: _Edge) -> list[int]:
    if vocabulary.config.mode == "onsets":
        return [vocabulary.index("pitch", edge.pitch)]
    velocity = vocabulary.index("velocity", edge.velocity_bin)
    if edge.is_drum:
        return [velocity, vocabulary.index("drum", edge.pitch)]
    return [vocabulary.index("program", edge.program), velocity, vocabulary.index("pitch", edge.pitch)]


def _tie_section(vocabulary: Vocabulary, sounding: _Sounding) -> list[int]:
    found = []
    for program, pitch in sorted(sounding):
        found += [vocabulary.index("program", program), vocabulary.index("pitch", pitch)]
    return [*found, vocabulary.tie]


def with_shifts(vocabulary: Vocabulary, events: Iterable[tuple[int, list[int]]]) -> list[int]:
    """Returns indices of events, given with their steps since the start, with shifts before each new step."""
    found: list[int] = []
    now = 0
    for step, indices in events:
        if step > now:
            found += shifts(vocabulary, step)
            now = step
        found += indices
    return found


def shifts(vocabulary: Vocabulary, steps: int) -> list[int]:
    """Returns the indices of shifts that express `steps` steps: several if one cannot."""
    most = vocabulary.config.max_shift_steps
    whole, rest = divmod(steps, most)
    return [vocabulary.index("shift", most)] * whole + ([vocabulary.index("shift", rest)] if rest else [])


def without_repeats(vocabulary: Vocabulary, indices: Iterable[int]) -> list[int]:
    """Returns indices without programs and velocities that equal the current one; none is known at the start."""
    found = []
    current: dict[str, int] = {}
    for index in indices:
        event = vocabulary.event(index)
        if event is not None and event.kind in ("program", "velocity"):
            if current.get(event.kind) == event.value:
                continue
            current[event.kind] = event.value
        found.append(index)
    return found


def with_granularity(vocabulary: Vocabulary, indices: Iterable[int]) -> list[int]:
    """Returns indices with programs as they are, by class (the first of each 8), or without programs."""
    programs, granularity = vocabulary.range("program"), vocabulary.config.granularity
    if granularity == "flat":
        return [index for index in indices if index not in programs]
    if granularity == "midi_class":
        return [index - (index - programs.start) % 8 if index in programs else index for index in indices]
    return list(indices)


def _voice(note: Note) -> tuple[bool, int, int]:
    return note.is_drum, note.program, note.pitch
