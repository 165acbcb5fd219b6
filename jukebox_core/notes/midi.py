"""Notes to MIDI files and back, type 1. Imports no torch.

Written: 220 ticks per quarter note at 120 beats a minute, 440 ticks a second, each tick rounded from the absolute time,
so that no error adds up: at most 1.14 ms. The first track has tempo and metre; then comes one track for each program,
and one for drums on channel 9 (counted from 0). A MIDI port has 16 channels, so from the 16th program on, tracks name
further ports; players that ignore ports still find the program in each track.
"""

from __future__ import annotations

import bisect
import io
from collections import defaultdict, deque
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import mido

from jukebox_core.errors import NotesError
from jukebox_core.notes.note import Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TICKS_PER_QUARTER, TEMPO = 220, 500_000  # microseconds per quarter note
TICKS_PER_SECOND = TICKS_PER_QUARTER * 1_000_000 // TEMPO
DRUM_CHANNEL = 9
_CHANNELS = tuple(channel for channel in range(16) if channel != DRUM_CHANNEL)
_FRAMES_OF_FILM = 0x8000  # a division of time with this bit is another kind
_MOST_TICKS = 2**28 - 1  # of one delta time


class _Track(NamedTuple):
    """Place of the notes of one program, or of the drums."""

    port: int
    channel: int
    program: int


def midi_bytes(notes: Iterable[Note]) -> bytes:
    """Returns a MIDI file of type 1; its tracks are in the order in which their programs appear.

    Raises:
        NotesError: the music is longer than a MIDI file can be (a week).
    """
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_QUARTER)
    first = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=TEMPO), mido.MetaMessage("time_signature")])
    file.tracks.append(_ended(first))
    groups: dict[tuple[bool, int], list[Note]] = defaultdict(list)
    for note in notes:
        groups[note.is_drum, 0 if note.is_drum else note.program].append(note)
    pitched = [key for key in groups if not key[0]]
    for key in (*pitched, *(key for key in groups if key[0])):
        port, place = divmod(0 if key[0] else pitched.index(key), len(_CHANNELS))
        track = _Track(port, DRUM_CHANNEL if key[0] else _CHANNELS[place], key[1])
        file.tracks.append(_track(track, groups[key]))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def _track(place: _Track, notes: Iterable[Note]) -> mido.MidiTrack:
    events = []
    for note in notes:
        on = tick(note.start)
        off = max(on + 1, tick(note.end))
        events.append((on, 1, note.pitch, note.velocity))
        events.append((off, 0, note.pitch, 0))
    messages = mido.MidiTrack()
    if place.port:
        messages.append(mido.MetaMessage("midi_port", port=place.port))
    if place.channel == DRUM_CHANNEL:
        messages.append(mido.MetaMessage("track_name", name="Drums"))
    messages.append(mido.Message("program_change", channel=place.channel, program=place.program))
    now = 0
    for at, on, pitch, velocity in sorted(events):  # at one tick, notes end before others start
        kind = "note_on" if on else "note_off"
        messages.append(mido.Message(kind, channel=place.channel, note=pitch, velocity=velocity, time=at - now))
        now = at
    return _ended(messages)


def tick(seconds: float) -> int:
    """Returns the tick nearest to a time.

    Raises:
        NotesError: it is beyond what a MIDI file can hold.
    """
    found = round(seconds * TICKS_PER_SECOND)
    if found > _MOST_TICKS:
        raise NotesError(
            f"a note at {seconds:,.0f} s is beyond the {_MOST_TICKS // TICKS_PER_SECOND:,} s of a MIDI file"
        )
    return found


def _ended(track: mido.MidiTrack) -> mido.MidiTrack:
    track.append(mido.MetaMessage("end_of_track", time=1))  # one tick after the last event
    return track


def midi_notes(content: bytes, name: str) -> list[Note]:
    """Returns the notes in a MIDI file of any tempo map, track by track; `name` is for messages.

    A note-on ends with the first note-off of its track, channel and pitch; a note without one ends with its track. The
    program is the last one that the note's own track set for its channel; without one, the channel's of any track.

    Raises:
        NotesError: it is no MIDI file, damaged, or its times are of another kind than ticks per quarter.
    """
    if not content.startswith(b"MThd"):
        raise NotesError(f"{name} is no MIDI file; give a file that begins with MThd, such as `Notes.to_midi` writes")
    try:
        file = mido.MidiFile(file=io.BytesIO(content), clip=True)
        notes = _notes(file) if 0 < file.ticks_per_beat < _FRAMES_OF_FILM else None
    except Exception as error:  # a damaged file can raise nearly anything
        raise NotesError(f"{name} is a damaged MIDI file ({error!r}); export it again") from error
    if notes is None:
        raise NotesError(f"{name} counts frames of film, not ticks per quarter note; convert it to the latter")
    return notes


def _notes(file: mido.MidiFile) -> list[Note]:
    clock = _Clock(file)
    shared = _channel_programs(file.tracks)
    return list(chain.from_iterable(_track_notes(track, clock, shared) for track in file.tracks))


def _track_notes(track: mido.MidiTrack, clock: _Clock, shared: dict[tuple[int, int], int]) -> list[Note]:
    found: list[Note] = []
    open_: dict[tuple[int, int], deque[tuple[int, int, int]]] = defaultdict(deque)
    programs: dict[int, int] = {}
    now, port = 0, 0

    def end(channel: int, pitch: int) -> None:
        on, velocity, program = open_[channel, pitch].popleft()
        drum = channel == DRUM_CHANNEL
        start = clock.seconds(on)
        stop = clock.seconds(max(now, on + 1))
        found.append(Note(start, stop, pitch, velocity, 0 if drum else program, drum))

    for message in track:
        now += message.time
        if message.type == "midi_port":
            port = message.port
        elif message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type == "note_on" and message.velocity > 0:
            program = programs.get(message.channel, shared.get((port, message.channel), 0))
            open_[message.channel, message.note].append((now, message.velocity, program))
        elif message.type in ("note_on", "note_off") and open_[message.channel, message.note]:
            end(message.channel, message.note)
    for channel, pitch in list(open_):
        while open_[channel, pitch]:
            end(channel, pitch)
    return found


def _channel_programs(tracks: Sequence[mido.MidiTrack]) -> dict[tuple[int, int], int]:
    """Returns the first program of each port and channel, for notes in tracks without one."""
    found: dict[tuple[int, int], int] = {}
    for track in tracks:
        port = 0
        for message in track:
            if message.type == "midi_port":
                port = message.port
            elif message.type == "program_change":
                found.setdefault((port, message.channel), message.program)
    return found


class _Clock:
    """Ticks to seconds by the tempo changes of all tracks."""

    def __init__(self, file: mido.MidiFile) -> None:
        changes: dict[int, int] = {}
        for track in file.tracks:
            now = 0
            for message in track:
                now += message.time
                if message.type == "set_tempo":
                    changes[now] = message.tempo
        self._ticks, self._seconds, self._tempos = [0], [0.0], [changes.pop(0, TEMPO)]
        self._per_quarter = file.ticks_per_beat * 1_000_000
        for at in sorted(changes):
            seconds = self.seconds(at)
            self._ticks.append(at)
            self._seconds.append(seconds)
            self._tempos.append(changes[at])

    def seconds(self, at: int) -> float:
        """Returns the time of a tick."""
        last = bisect.bisect_right(self._ticks, at) - 1
        return self._seconds[last] + float((at - self._ticks[last]) * self._tempos[last] / self._per_quarter)
