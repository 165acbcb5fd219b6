"""Lists of notes, with their forms for programs and files. Imports no torch."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.records import read_regular
from jukebox_core.errors import NotesError, RecordError
from jukebox_core.notes.midi import midi_bytes, midi_notes
from jukebox_core.notes.note import COLUMNS, PITCHES, Note, checked

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Notes(Sequence[Note]):
    """Notes of one piece of music, in order of time, and what was lost while they were transcribed."""

    notes: tuple[Note, ...] = ()
    invalid_events: int = 0  # events of the model that contradict those before them; they were ignored
    dropped_events: int = 0  # events later than the end of their segment; they were ignored
    truncated_segments: int = 0  # segments that reached the limit of tokens; the notes before it were kept
    seconds: float = field(default=0.0)  # duration of the transcribed audio; 0 if it is not known

    @classmethod
    def of(cls, notes: Iterable[Sequence[Any]], **counts: Any) -> Notes:
        """Returns the notes sorted by (start, drum, program, pitch); each may be a `Note` or a row of its fields.

        Raises:
            NotesError: a note ends before it starts, or a field is out of range.
        """
        valid = [checked(Note(*note)) for note in notes]
        return cls(tuple(sorted(valid, key=lambda n: (n.start, n.is_drum, n.program, n.pitch, n.end))), **counts)

    @overload
    def __getitem__(self, index: int) -> Note: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Note, ...]: ...
    def __getitem__(self, index: int | slice) -> Note | tuple[Note, ...]:
        return self.notes[index]

    def __len__(self) -> int:
        return len(self.notes)

    def __iter__(self) -> Iterator[Note]:
        return iter(self.notes)

    @property
    def end(self) -> float:
        """Time at which the last note ends, in seconds; 0 without notes."""
        return max((note.end for note in self.notes), default=0.0)

    @property
    def programs(self) -> tuple[int, ...]:
        """The programs of pitched notes, sorted."""
        return tuple(sorted({note.program for note in self.notes if not note.is_drum}))

    def piano_roll(self, rate: float = 100.0, *, program: int | None = None, drums: bool = False) -> NDArray[np.uint8]:
        """Returns the velocity of each pitch over time, uint8 [128, frames]; 0 is silence.

        A note fills at least one frame; where notes of one pitch overlap, the louder one counts.

        Args:
            rate: frames per second.
            program: notes of this program only; by default all pitched notes.
            drums: drum notes instead of pitched ones.

        Raises:
            NotesError: the rate is not positive.
        """
        if not 0 < rate < math.inf:
            raise NotesError(f"rate is {rate}; give frames per second above 0")
        roll = np.zeros((PITCHES, math.ceil(max(self.end, self.seconds) * rate - 1e-9)), np.uint8)
        for note in self.notes:
            if note.is_drum != drums or program not in (None, note.program):
                continue
            first = min(int(note.start * rate + 1e-9), roll.shape[1] - 1)
            row = roll[note.pitch, first : max(first + 1, round(note.end * rate))]
            np.maximum(row, note.velocity, out=row)
        return roll

    def to_midi(self, path: str | Path) -> Path:
        """Writes a MIDI file (`jukebox_core.notes.midi`), atomically; returns its path.

        Raises:
            NotesError: the file cannot be written.
        """
        return _write(Path(path), midi_bytes(self))

    def to_json(self, path: str | Path | None = None, extra: Mapping[str, Any] | None = None) -> str:
        """Returns the notes and counts as JSON; writes it to `path` too, atomically, if one is given.

        Args:
            path: the file.
            extra: further entries, before the notes.

        Raises:
            NotesError: the file cannot be written.
        """
        head = {**(extra or {}), **{name: getattr(self, name) for name in _COUNTS}}
        rows = ",\n".join(f"    {json.dumps(dict(zip(COLUMNS, note, strict=True)))}" for note in self.notes)
        text = json.dumps(head, indent=2)[:-2] + f',\n  "notes": [\n{rows}\n  ]\n}}\n'
        if path is not None:
            _write(Path(path), text.encode())
        return text

    def to_csv(self, path: str | Path | None = None) -> str:
        """Returns the notes as CSV with a header line; writes it to `path` too, atomically, if one is given.

        Raises:
            NotesError: the file cannot be written.
        """
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([*note[:-1], int(note.is_drum)] for note in self.notes)
        if path is not None:
            _write(Path(path), buffer.getvalue().encode())
        return buffer.getvalue()

    @classmethod
    def from_json(cls, text: str) -> Notes:
        """Returns the notes in JSON as `to_json` gives it.

        Raises:
            NotesError: it is not JSON, or of another shape.
        """
        try:
            data = json.loads(text)
            rows = [[row[name] for name in COLUMNS] for row in data["notes"]]
            counts = {name: type(default)(data.get(name, default)) for name, default in _COUNTS.items()}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise NotesError(f"these are no notes in JSON ({error!r}); give what `Notes.to_json` wrote") from error
        return cls.of(rows, **counts)


_MOST_BYTES = 1 << 26  # of a file of notes: far above any song's

_COUNTS = {"seconds": 0.0, "invalid_events": 0, "dropped_events": 0, "truncated_segments": 0}


def parse_midi(content: bytes, name: str) -> Notes:
    """Returns the notes in a MIDI file (`jukebox_core.notes.midi`); `name` is for messages.

    Raises:
        NotesError: it is no MIDI file, damaged, or its times are of another kind than ticks per quarter.
    """
    return Notes.of(midi_notes(content, name))


def read_notes(path: str | Path) -> Notes:
    """Returns the notes in a MIDI file, or in a ``.json`` file that `Notes.to_json` wrote.

    Raises:
        NotesError: the file is missing, unreadable or of another format.
    """
    path = Path(path)
    try:
        content = read_regular(path, _MOST_BYTES, links=True)
    except (OSError, RecordError) as error:
        reason = f"{path} cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise NotesError(f"{reason}; give the path of a MIDI file") from error
    if path.suffix.lower() == ".json":
        try:
            return Notes.from_json(content.decode())
        except (NotesError, UnicodeDecodeError) as error:
            raise NotesError(f"{path}: {error}") from error
    return parse_midi(content, str(path))


def _write(path: Path, content: bytes) -> Path:
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise NotesError(f"{path} cannot be written: {error.strerror}; choose another folder") from error
    return path
