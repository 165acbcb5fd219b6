"""Transcribes recordings: blocks of segments through the token store, then files of notes."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.audio.spool import spool_audio
from jukebox_core.base.hashing import digest
from jukebox_core.base.records import read_json
from jukebox_core.errors import AudioError, ConfigError, DamagedError, NotesError, RecordError
from jukebox_core.family import open_transcribing
from jukebox_core.notes.notes import Notes, read_notes
from jukebox_core.runtime.config import ENGINE_VERSION
from jukebox_core.store.spooled import open_store
from stages import stopping
from stages.sound.note_lines import NoteLines, is_of
from stages.sound.transcription_pins import drop_blocks, pin_blocks
from stages.sound.transcription_report import write_transcription_report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.audio.spool import SpooledAudio
    from stages.resident import TranscriberSpec

log = logging.getLogger("jukebox")

_SCHEMA = 1  # of the causes of a transcription


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """An audio file, and the files that its notes are written to."""

    audio: str
    target: str  # path of the JSON file; the others have the same name
    midi: bool
    csv: bool
    lines: bool = False  # one note a line, as they are found
    report: bool = False  # a page to look at and to listen to
    soundfont: str | None = None  # that its notes are played with; None: the composer's instruments
    host: str = field(default_factory=socket.gethostname)  # where the command runs; workers may be elsewhere
    named: bool = True  # by the user: an error ends the command; otherwise it was found in a folder, and is left out

    @property
    def paths(self) -> list[Path]:
        """The files to write, the JSON file last. It is written first: without it, no other file is this program's."""
        json_file = Path(self.target)
        return [*self.others, json_file]

    @property
    def others(self) -> list[Path]:
        """The files to write besides the JSON file."""
        kinds = ((".mid", self.midi), (".csv", self.csv), (LINES, self.lines), (REPORT, self.report))
        return [Path(self.target).with_suffix(end) for end, wanted in kinds if wanted]


LINES, REPORT = ".jsonl", ".html"


def check_transcripts(spec: TranscriberSpec, recordings: Sequence[Recording], settings: Any) -> list[Recording]:
    """Checks that the files can be written, and that those that exist are transcripts of the same recordings.

    Returns:
        The recordings that are not finished.

    Raises:
        ConfigError: a folder cannot be written, or a file is no transcript made in the same way: it is not overwritten.
        AudioError: a recording that the user named, and whose transcript exists, cannot be read.
    """
    for folder in {Path(recording.target).parent for recording in recordings}:
        _check_folder(folder)
    return [recording for recording in recordings if not _is_finished(spec, recording, settings)]


def transcribe_file(spec: TranscriberSpec, recording: Recording, settings: Any, store: str) -> list[Path]:
    """Writes the notes of a recording; returns the paths of the files.

    Idempotent: finished files are kept, and finished blocks are in the store.

    Raises:
        AudioError: the recording cannot be read, or is shorter than 10 ms.
        DiskError, NotesError: a file cannot be written.
        StoppedError: the process was asked to stop; finished blocks are stored.
    """
    audio = _read(spec, recording)
    causes = _causes(spec, audio, settings)
    notes = _finished(recording, digest(causes))
    extra = {"key": digest(causes), "audio": Path(recording.audio).name, "model": spec.config.name}
    if notes is None:
        _check_others(recording, digest(causes))
        notes = _transcribe(spec, audio, recording, settings, store, causes, extra)
        notes.to_json(recording.target, extra)
        drop_blocks(open_store(store).uri, recording.host, Path(recording.target))
    _write_others(recording, notes, extra)
    log.info(
        "%s: %d notes; %d invalid and %d dropped events, %d truncated segments", recording.audio, len(notes),
        notes.invalid_events, notes.dropped_events, notes.truncated_segments,
    )  # fmt: skip
    return recording.paths


def store_blocks(spec: TranscriberSpec, recording: Recording, settings: Any, store: str, first: int, stop: int) -> None:
    """Stores the blocks [first, stop) of a recording whose blocks do not depend on each other; errors as above."""
    audio = _read(spec, recording)
    blocks = _Blocks(spec, audio, settings, store, _causes(spec, audio, settings), recording)
    for _ in blocks.each(min(first, blocks.count), min(stop, blocks.count)):
        pass


def _transcribe(
    spec: TranscriberSpec,
    audio: SpooledAudio,
    recording: Recording,
    settings: Any,
    store: str,
    causes: dict[str, Any],
    extra: dict[str, Any],
) -> Notes:
    """Returns the notes of a recording; its blocks are sealed one by one, and those that are stored are read."""
    blocks = _Blocks(spec, audio, settings, store, causes, recording)
    found: list[NDArray[np.int32]] = []

    def each() -> Iterator[NDArray[np.int32]]:
        for block in blocks.each(0, blocks.count):
            found.append(block)
            yield block

    if recording.lines:
        with NoteLines(Path(recording.target).with_suffix(LINES), extra) as lines:
            for notes in blocks.transcriber.stream_notes(each(), settings, samples=len(audio.samples)):
                lines.write(notes)
    else:
        for _ in each():
            pass
    return blocks.transcriber.notes_of(found, settings, seconds=len(audio.samples) / spec.config.sample_rate)


class _Blocks:
    """The blocks of one recording, in the store or still to be computed."""

    def __init__(
        self,
        spec: TranscriberSpec,
        audio: SpooledAudio,
        settings: Any,
        store: str,
        causes: dict[str, Any],
        recording: Recording,
    ) -> None:
        self.transcriber = spec.open()
        self._audio, self._settings, self._recording = audio, settings, recording
        self._tokens = open_store(store)
        self._size = open_transcribing(spec.family).block_samples(spec.config, settings)
        self._causes: list[dict[str, Any]] = []
        for index in range(self.transcriber.block_count(len(audio.samples))):
            reads = digest(self._causes[-1]) if self._size is None and self._causes else ""
            self._causes.append({**causes, "block": index, "reads": reads})
        self._keys = [digest(each) for each in self._causes]

    @property
    def count(self) -> int:
        """How many blocks the recording has."""
        return len(self._keys)

    def each(self, first: int, stop: int) -> Iterator[NDArray[np.int32]]:
        """Yields the blocks [first, stop) in order; those that are missing are computed, sealed, and pinned before."""
        stored = {index: self._stored(index) for index in range(first, stop)}
        have = {index: found for index, found in stored.items() if found is not None}
        if len(have) < stop - first:
            pin_blocks(self._tokens.uri, self._recording.host, Path(self._recording.target), self._keys)
        index = first
        while index < stop:
            if index in have:
                yield have[index]
                index += 1
                continue
            until = next((later for later in range(index, stop) if later in have), stop)
            for block in islice(self._computed(index, have), until - index):
                self._tokens.seal(self._keys[index], block, first=index, causes=self._causes[index])
                self._audio.release()
                have[index] = block
                yield block
                index += 1
                if index < stop:
                    stopping.check()

    def _stored(self, index: int) -> NDArray[np.int32] | None:
        try:
            found = self._tokens.find(self._keys[index])
        except DamagedError as error:
            log.warning("%s: transcribing that block again", error)
            return None
        return None if found is None else found.tokens

    def _computed(self, first: int, have: dict[int, NDArray[np.int32]]) -> Iterator[NDArray[np.int32]]:
        """Yields the blocks from `first` on; those before it are in `have` where they matter."""
        if self._size is None:
            return self.transcriber.blocks(self._audio.samples, self._settings, [have[each] for each in range(first)])
        return self.transcriber.blocks(self._audio.samples[first * self._size :], self._settings)


def _read(spec: TranscriberSpec, recording: Recording) -> SpooledAudio:
    folder = Path(recording.target).parent
    _check_folder(folder)
    return spool_audio(recording.audio, rate=spec.config.sample_rate, folder=folder)


def _causes(spec: TranscriberSpec, audio: SpooledAudio, settings: Any) -> dict[str, Any]:
    """Returns all that decides the notes of a recording."""
    return {
        "schema": _SCHEMA,
        "family": spec.family,
        "weights": spec.weights.identity,
        "dtype": spec.dtype,
        "engine": ENGINE_VERSION,
        "audio": audio.sha256,
        **open_transcribing(spec.family).transcription_causes(spec.config, settings),
    }


def _is_finished(spec: TranscriberSpec, recording: Recording, settings: Any) -> bool:
    if not os.path.lexists(recording.target) and not any(map(os.path.lexists, recording.others)):
        return False
    try:
        key = digest(_causes(spec, _read(spec, recording), settings))
    except AudioError:
        if recording.named:
            raise
        return False  # what transcribes it leaves it out, and says why
    if _finished(recording, key) is None:
        _check_others(recording, key)
        return False
    return all(path.exists() for path in recording.others)


def _finished(recording: Recording, key: str) -> Notes | None:
    """Returns the notes in the JSON file, if it is there.

    Raises:
        ConfigError: it was made of another recording, or in another way.
    """
    path = Path(recording.target)
    try:
        if read_json(path).get("key") == key:
            return read_notes(path)
    except FileNotFoundError:
        return None
    except (OSError, RecordError, AttributeError, NotesError):
        pass
    raise _other(path, recording)


def _check_others(recording: Recording, key: str) -> None:
    """Checks that no file is in the way while the JSON file is not there; lines of the same notes are not."""
    for path in recording.others:
        if os.path.lexists(path) and not (path.suffix == LINES and is_of(path, key)):
            raise _other(path, recording)


def _other(path: Path, recording: Recording) -> ConfigError:
    return ConfigError(
        f"{path} exists, and is not the transcript of {recording.audio} with these settings; nothing is overwritten: "
        "remove it, or choose another folder"
    )


def _check_folder(folder: Path) -> None:
    """Makes a folder, and checks that files can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"folder {folder} cannot be written ({error.strerror}); choose another one") from None


def _write_others(recording: Recording, notes: Notes, extra: dict[str, Any]) -> None:
    """Writes the files besides the JSON file that are missing."""
    for path in recording.others:
        if path.exists():
            continue
        if path.suffix == ".mid":
            notes.to_midi(path)
        elif path.suffix == ".csv":
            notes.to_csv(path)
        elif path.suffix == LINES:
            with NoteLines(path, extra) as lines:
                lines.write(sorted(notes, key=lambda note: note.end))
        else:
            font = None if recording.soundfont is None else Path(recording.soundfont)
            write_transcription_report(path, Path(recording.audio), notes, model=extra["model"], soundfont=font)
