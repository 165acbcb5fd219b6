"""Events of segments to notes. Imports no torch.

One state runs over all segments of a recording: the time, the current velocity and program, which both outlive a
segment, and the sounding notes. With ties, a segment begins with the sounding notes that continue (the tie section);
those it does not name end there. An event that contradicts the state changes nothing and counts as invalid. If events
go beyond the start of the next segment, the rest of their segment is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from jukebox_core.families.mt3.events.vocabulary import Event, Vocabulary, vocabulary_of
from jukebox_core.notes.note import Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jukebox_core.families.mt3.config import VocabularyConfig

SHORTEST = 0.01  # seconds; the length of drum notes and of those without an end
_FIRST_VELOCITY = 100  # until the first velocity event


class Segment(NamedTuple):
    """The events of one segment."""

    start: float  # seconds
    indices: Sequence[int]


class _Sounding(NamedTuple):
    start: float
    velocity: int


class Decoded(NamedTuple):
    """Notes in the order in which they end, and counts of events that were ignored."""

    notes: list[Note]
    invalid: int
    dropped: int


@dataclass(slots=True)
class NoteDecoder:
    """The state of decoding one recording."""

    config: VocabularyConfig
    notes: list[Note] = field(default_factory=list)
    invalid: int = 0
    dropped: int = 0
    time: float = 0.0
    velocity: int = _FIRST_VELOCITY
    program: int = 0
    sounding: dict[tuple[int, int], _Sounding] = field(default_factory=dict)  # by (pitch, program)
    tied: set[tuple[int, int]] = field(default_factory=set)
    in_tie_section: bool = False
    start: float = 0.0  # of the segment
    limit: float = 0.0  # start of the next segment; 0: none
    event_time: float = 0.0
    steps: int = 0  # of consecutive shifts

    @property
    def vocabulary(self) -> Vocabulary:
        """The events."""
        return vocabulary_of(self.config)

    def begin(self, start: float, next_start: float = 0.0) -> None:
        """Begins a segment; `next_start` is where the next one begins, 0 if there is none."""
        self.start = self.event_time = start
        self.limit, self.steps = next_start, 0
        self.tied = set()
        self.in_tie_section = self.config.mode == "ties"

    def feed(self, index: int) -> bool:
        """Applies one event by its index; returns False if it goes beyond the segment, so that the rest is dropped."""
        event = self.vocabulary.event(index)
        if event is None:
            self.invalid += 1
        elif event.kind == "shift":
            self.steps += event.value
            self.event_time = self.start + self.steps / self.config.steps_per_second
            return not (self.limit and self.event_time > self.limit)
        else:
            self.steps = 0
            if not self._apply(event):
                self.invalid += 1
        return True

    def segment(self, indices: Sequence[int]) -> None:
        """Applies all events of the segment that has begun."""
        for place, index in enumerate(indices):
            if not self.feed(index):
                self.dropped += len(indices) - place
                return

    def finish(self) -> Decoded:
        """Ends the notes that still sound, and returns all."""
        last = max((note.start for note in self.sounding.values()), default=None)
        if last is not None:
            self.time = max(self.time, last + SHORTEST)
        for key in list(self.sounding):
            self._end(key)
        return Decoded(self.notes, self.invalid, self.dropped)

    def _apply(self, event: Event) -> bool:
        """Applies an event at the current event time; returns False if it is invalid."""
        if self.config.mode == "onsets":
            return self._onset(event)
        if self.event_time < self.time:
            return False
        self.time = self.event_time
        if event.kind == "velocity":
            self.velocity = self.vocabulary.velocity(event.value)
            return True
        if event.kind == "program":
            self.program = event.value
            return True
        if event.kind == "pitch":
            return self._pitch(event.value)
        return self._drum(event.value) if event.kind == "drum" else self._tie()

    def _onset(self, event: Event) -> bool:
        if event.kind == "pitch":
            self.notes.append(Note(self.event_time, self.event_time + SHORTEST, event.value, _FIRST_VELOCITY))
        return event.kind == "pitch"

    def _pitch(self, pitch: int) -> bool:
        key = (pitch, self.program)
        if self.in_tie_section:
            if key not in self.sounding or key in self.tied:
                return False
            self.tied.add(key)
        elif self.velocity == 0:
            if key not in self.sounding:
                return False
            self._end(key)
        else:
            if key in self.sounding:
                self._end(key)
            self.sounding[key] = _Sounding(self.time, self.velocity)
        return True

    def _drum(self, key: int) -> bool:
        if self.velocity:
            self.notes.append(Note(self.time, self.time + SHORTEST, key, self.velocity, 0, is_drum=True))
        return self.velocity > 0

    def _tie(self) -> bool:
        if not self.in_tie_section:
            return False
        for key in [key for key in self.sounding if key not in self.tied]:
            self._end(key)
        self.in_tie_section = False
        return True

    def _end(self, key: tuple[int, int]) -> None:
        pitch, program = key
        start, velocity = self.sounding.pop(key)
        self.notes.append(Note(start, max(self.time, start + SHORTEST), pitch, velocity, program))


def decode(config: VocabularyConfig, segments: Iterable[Segment]) -> Decoded:
    """Returns the notes of a recording from the events of its segments, in any order."""
    ordered = sorted(segments, key=lambda segment: segment.start)
    decoder = NoteDecoder(config)
    for segment, following in zip_longest(ordered, ordered[1:]):
        decoder.begin(segment.start, following.start if following is not None else 0.0)
        decoder.segment(segment.indices)
    return decoder.finish()
