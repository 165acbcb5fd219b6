"""Music with known notes, to learn from: recordings with MIDI files beside them, or songs composed when they are read.

folder/first.wav, folder/first.mid        a recording and its notes
folder/takes/second.mp3, second.midi      at any depth
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import soxr

from jukebox_core.audio.files import read_channels
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.transcript import score_notes
from jukebox_core.datasets.unreadable import UnreadableSongs
from jukebox_core.errors import AudioError, NotesError
from jukebox_core.families.mt3.events.encoding import trim_overlaps
from jukebox_core.notes.notes import read_notes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.composer.config import AlbumConfig
    from jukebox_core.datasets.songs import Song
    from jukebox_core.notes.note import Note

MIDI_SUFFIXES = (".mid", ".midi")
_BEYOND_SECONDS = (
    1.0  # notes may start this long after the end of a recording before a MIDI file is taken for another's
)
_EVALUATION = 1  # seeds of held-out songs differ from those of all epochs by this word
_KEPT = 8  # composed songs that are kept, for the excerpts of one batch


class Piece(NamedTuple):
    """A part of a song: its audio and all notes of the song."""

    audio_T: NDArray[np.float32]  # at the rate that was asked for; shorter than asked for at the song's end
    notes: Sequence[Note]  # times from the start of the song, at its own speed


class Songs(Protocol):
    """Songs with known notes."""

    @property
    def seconds(self) -> Sequence[float]:
        """Duration of each song of an epoch."""
        ...

    def piece(self, epoch: int, song: int, *, start: float, seconds: float, rate: int) -> Piece:
        """Returns the audio from `start` on, mono float32, and the notes of the whole song.

        Raises:
            AudioError: the recording cannot be read any more.
            NotesError: neither can its MIDI file.
        """
        ...

    def skip(self, song: int, error: AudioError | NotesError) -> None:
        """Counts a song that cannot be read; the error again if there are too many."""
        ...


class RecordedSongs:
    """Recordings and their MIDI files; the notes are read once."""

    def __init__(self, songs: Sequence[Song], lengths: Mapping[str, float], most_unreadable: float) -> None:
        """Takes the songs and their durations; reads nothing yet."""
        self.seconds = [lengths[song.name] for song in songs]
        self._songs = songs
        self._unreadable = UnreadableSongs([song.name for song in songs], most_unreadable)
        self._notes: dict[int, list[Note]] = {}

    def piece(self, epoch: int, song: int, *, start: float, seconds: float, rate: int) -> Piece:  # noqa: ARG002
        """Returns a part of a recording; `epoch` changes nothing."""
        path = self._songs[song].path
        if song not in self._notes:
            self._notes[song] = trim_overlaps(read_notes(midi_beside(path)))
        left = min(seconds, self.seconds[song] - start - 1 / rate)
        audio_TC = read_channels(path, rate=rate, seconds=left, offset=start)
        return Piece(audio_TC.mean(axis=1, dtype=np.float32), self._notes[song])

    def skip(self, song: int, error: AudioError | NotesError) -> None:
        """Counts a song that cannot be read."""
        self._unreadable.skip(song, error)


class ComposedSongs:
    """Songs that the composer makes when they are read: other ones in every epoch, each a function of seed and epoch.

    Args:
        album: artists, genres and the number of songs of an epoch, all of its mean length.
        held_out: songs of no epoch of a training, the same in every epoch.
    """

    def __init__(self, album: AlbumConfig, *, held_out: bool = False) -> None:
        self._album, self._held_out = album, held_out
        self._made: dict[tuple[int, int], Piece] = {}
        self._lock = threading.Lock()
        self.seconds = [album.seconds] * album.songs

    def piece(self, epoch: int, song: int, *, start: float, seconds: float, rate: int) -> Piece:
        """Returns a part of a composed song."""
        whole = self._song(epoch, song)
        scale = self._album.sample_rate
        part_T = whole.audio_T[round(start * scale) : round((start + seconds) * scale)]
        return Piece(soxr.resample(part_T, scale, rate).astype(np.float32) if len(part_T) else part_T, whole.notes)

    def skip(self, song: int, error: AudioError | NotesError) -> None:  # noqa: ARG002
        """Raises: nothing is read that could be unreadable."""
        raise error

    def _song(self, epoch: int, song: int) -> Piece:
        key = (0 if self._held_out else epoch, song)
        with self._lock:
            if key not in self._made:
                words = (self._album.seed, _EVALUATION) if self._held_out else (self._album.seed, 0, epoch)
                seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 2)
                album = replace(self._album, seed=seed, songs=song + 1)
                score = replace(plan_album(album)[song], seconds=album.seconds).compose()
                while len(self._made) >= _KEPT:
                    del self._made[next(iter(self._made))]
                self._made[key] = Piece(render_score(score, album).mean(axis=1), trim_overlaps(score_notes(score)))
            return self._made[key]


def midi_beside(path: Path) -> Path:
    """Returns the MIDI file of a recording: of the same name, beside it; NotesError if there is none."""
    for suffix in MIDI_SUFFIXES:
        found = path.with_suffix(suffix)
        if found.is_file():
            return found
    raise NotesError(f"{path.name} has no MIDI file beside it; add {path.with_suffix(MIDI_SUFFIXES[0]).name}")


def notes_problem(path: Path, seconds: float) -> str | None:
    """Returns why the notes of a recording cannot be learned from; None if they can.

    Args:
        path: the recording, which lasts `seconds`.
        seconds: its duration.
    """
    try:
        notes = read_notes(midi_beside(path))
    except NotesError as error:
        return str(error)
    if not len(notes):
        return "its MIDI file holds no notes"
    last = max(note.start for note in notes)
    if last > seconds + _BEYOND_SECONDS:
        return f"a note of its MIDI file starts at {last:.1f} s, but the recording lasts {seconds:.1f} s"
    return None
