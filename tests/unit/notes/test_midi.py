from __future__ import annotations

import io
from typing import TYPE_CHECKING

import mido
import pytest

from jukebox_core.errors import NotesError
from jukebox_core.notes.midi import midi_bytes
from jukebox_core.notes.note import Note
from jukebox_core.notes.notes import Notes, parse_midi, read_notes

if TYPE_CHECKING:
    from pathlib import Path


def file_of(*tracks: list[mido.Message | mido.MetaMessage], **options: int) -> bytes:
    file = mido.MidiFile(type=1, ticks_per_beat=480, **options)
    file.tracks += [mido.MidiTrack(track) for track in tracks]
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def on(pitch: int, time: int = 0, velocity: int = 80, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=pitch, velocity=velocity, time=time, channel=channel)


def off(pitch: int, time: int = 0, channel: int = 0) -> mido.Message:
    return mido.Message("note_off", note=pitch, time=time, channel=channel)


@pytest.mark.parametrize("programs", [1, 15, 16, 40])
def test_every_program_has_a_channel_of_its_own_and_drums_have_theirs(programs: int) -> None:
    notes = [Note(0.1 * index, 0.1 * index + 0.05, 60, 127, 3 * index) for index in range(programs)]
    content = midi_bytes(Notes.of([*notes, Note(0.0, 0.01, 36, 127, 0, is_drum=True)]))
    places = []
    for track in mido.MidiFile(file=io.BytesIO(content)).tracks[1:]:
        port = next((message.port for message in track if message.type == "midi_port"), 0)
        [change] = [message for message in track if message.type == "program_change"]
        assert {message.channel for message in track if not message.is_meta} == {change.channel}
        places.append((port, change.channel))
    assert len(set(places)) == programs + 1
    assert [place for place in places if place[1] == 9] == [(0, 9)]
    back = parse_midi(content, "x")
    assert {note.program for note in back if not note.is_drum} == {note.program for note in notes}
    assert [note.pitch for note in back if note.is_drum] == [36]


def test_ticks_are_rounded_from_the_absolute_time() -> None:
    notes = [Note(0.0937 * index, 0.0937 * index + 0.01, 60) for index in range(6_400)]  # ten minutes
    back = parse_midi(midi_bytes(Notes.of(notes)), "x")
    assert max(abs(a.start - b.start) for a, b in zip(notes, back, strict=True)) <= 0.00114


def test_a_file_without_notes_is_one() -> None:
    assert parse_midi(midi_bytes(Notes()), "x") == Notes()


def test_tempo_changes_of_any_track_count() -> None:
    tempo = [mido.MetaMessage("set_tempo", tempo=1_000_000), mido.MetaMessage("set_tempo", tempo=250_000, time=480)]
    [note] = parse_midi(file_of(tempo, [on(60, 240), off(60, 480)]), "x")
    assert (note.start, note.end) == (0.5, 1.0 + 0.125)


def test_a_note_on_without_velocity_ends_a_note_and_notes_without_an_end_last_as_long_as_their_track() -> None:
    track = [on(60), on(60, 480, 0), on(62), mido.MetaMessage("end_of_track", time=960), off(99)]
    assert [(n.pitch, n.start, n.end) for n in parse_midi(file_of(track), "x")] == [(60, 0.0, 0.5), (62, 0.5, 1.5)]


def test_overlapping_notes_of_one_pitch_end_in_order() -> None:
    track = [on(60), on(60, 480), off(60, 480), off(60, 480)]
    assert [(n.start, n.end) for n in parse_midi(file_of(track), "x")] == [(0.0, 1.0), (0.5, 1.5)]


def test_a_program_set_in_another_track_counts_and_the_tracks_own_counts_more() -> None:
    change = [mido.Message("program_change", channel=2, program=40)]
    plain = [on(60, channel=2), off(60, 10, channel=2)]
    own = [mido.Message("program_change", channel=2, program=7), on(62, channel=2), off(62, 10, channel=2)]
    assert [(n.pitch, n.program) for n in parse_midi(file_of(change, plain, own), "x")] == [(62, 7), (60, 40)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no MIDI file"),
        (b"RIFF1234WAVE", "is no MIDI file"),
        (b"MThd", "damaged"),
        (file_of([on(60)])[:-9], "damaged"),
        (b"MThd\0\0\0\6\0\1\0\0\xe7\x28", "counts frames of film"),
    ],
    ids=["empty", "wav", "header only", "truncated", "film"],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.mid"
    path.write_bytes(content)
    with pytest.raises(NotesError, match=words) as caught:
        read_notes(path)
    assert "x.mid" in str(caught.value)


def test_music_longer_than_a_file_can_be_is_refused() -> None:
    with pytest.raises(NotesError, match="beyond the 610,080 s"):
        midi_bytes(Notes.of([Note(1e6, 1e6 + 1, 60)]))
