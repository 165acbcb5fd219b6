from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jukebox_core.errors import NotesError
from jukebox_core.notes.note import COLUMNS, Note
from jukebox_core.notes.notes import Notes, read_notes

if TYPE_CHECKING:
    from pathlib import Path

PIECE = Notes.of(
    [(0.5, 1.0, 60, 90, 5), (0.0, 0.25, 64, 100, 5), (0.5, 0.51, 36, 127, 0, True)], truncated_segments=1, seconds=2.0
)


def test_notes_are_sorted_by_time_and_are_a_sequence() -> None:
    assert [note.pitch for note in PIECE] == [64, 60, 36]
    assert (len(PIECE), PIECE[0], PIECE[1:][0].pitch) == (3, Note(0.0, 0.25, 64, 100, 5), 60)
    assert (PIECE.end, PIECE.programs) == (1.0, (5,))
    assert (Notes().end, Notes().programs, list(Notes())) == (0.0, (), [])


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ((1.0, 1.0, 60), "from 1.0 s to 1.0 s; it must start at 0 or later and end after"),
        ((-1.0, 1.0, 60), "it must start at 0"),
        ((0.0, float("inf"), 60), "it must start at 0"),
        ((float("nan"), 1.0, 60), "it must start at 0"),
        ((0.0, 1.0, 128), "a note has pitch 128"),
        ((0.0, 1.0, 60, 0), "velocity 0"),
        ((0.0, 1.0, 60, 90, -1), "program -1"),
        ((0.0, 1.0, 60.5), "pitch 60"),
        (("a", 1.0, 60), "is no note"),
        ((0.0, 1.0, float("inf")), "is no note"),
    ],
    ids=str,
)
def test_what_is_no_note_is_refused(note: tuple[Any, ...], words: str) -> None:
    with pytest.raises(NotesError, match=words):
        Notes.of([note])


def test_a_piano_roll_has_the_velocities_of_its_frames() -> None:
    roll = PIECE.piano_roll(20)
    assert roll.shape == (128, 40)  # the length of the audio
    assert (roll[64, :5] == 100).all()
    assert roll[64, 5] == 0
    assert (roll[60, 10:20] == 90).all()
    assert roll.sum() == 5 * 100 + 10 * 90
    assert PIECE.piano_roll(20, drums=True)[36].tolist() == [0] * 10 + [127] + [0] * 29
    assert not PIECE.piano_roll(20, program=4).any()
    assert PIECE.piano_roll(20, program=5).any()
    assert Notes().piano_roll().shape == (128, 0)
    assert np.count_nonzero(Notes.of([(0.999, 1.0, 60)]).piano_roll(1)) == 1


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_piano_roll_needs_a_rate(rate: float) -> None:
    with pytest.raises(NotesError, match="frames per second above 0"):
        PIECE.piano_roll(rate)


def test_json_and_csv_hold_every_field(tmp_path: Path) -> None:
    text = PIECE.to_json(tmp_path / "a.json", {"audio": "a.wav"})
    data = json.loads(text)
    assert (data["audio"], data["truncated_segments"], len(data["notes"])) == ("a.wav", 1, 3)
    assert Notes.from_json(text) == PIECE == read_notes(tmp_path / "a.json")
    assert PIECE.to_csv(tmp_path / "a.csv") == (tmp_path / "a.csv").read_text()
    lines = PIECE.to_csv().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert lines[3] == "0.5,0.51,36,127,0,1"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"notes": 3}', '{"notes": [{"start": 1}]}', '{"notes": [3]}', "null"]
)
def test_other_json_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(NotesError, match=r"x\.json"):
        read_notes(path)


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotesError, match="cannot be read: No such file"):
        read_notes(tmp_path / "none.mid")
    with pytest.raises(NotesError, match="is a folder; it must be a regular file"):
        read_notes(tmp_path)
    (tmp_path / "file").write_text("x")
    for write in (PIECE.to_midi, PIECE.to_json, PIECE.to_csv):
        with pytest.raises(NotesError, match="cannot be written"):
            write(tmp_path / "file" / "x.out")


@pytest.mark.parametrize("name", ["notes.mid", "notes.json"])
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(NotesError, match="is a pipe; it must be a regular file"):
        read_notes(tmp_path / name)
    with pytest.raises(NotesError, match="must be a regular file"):
        read_notes("/dev/zero")
