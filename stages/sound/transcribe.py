"""Transcribes recordings: blocks of segments through the token store, then files of notes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.audio.files import read_audio
from jukebox_core.base.hashing import digest, digest_bytes
from jukebox_core.base.records import read_json
from jukebox_core.errors import ConfigError, NotesError, RecordError
from jukebox_core.family import open_transcribing
from jukebox_core.notes.notes import Notes, read_notes
from jukebox_core.runtime.config import ENGINE_VERSION
from jukebox_core.store.spooled import open_store
from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from stages.resident import TranscriberSpec

log = logging.getLogger("jukebox")

_SCHEMA = 1  # of the causes of a transcription


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """An audio file, and the files that its notes are written to."""

    audio: str
    target: str  # path of the JSON file; MIDI and CSV have the same name
    midi: bool
    csv: bool

    @property
    def paths(self) -> list[Path]:
        """The files to write, the JSON file last: where it is, the others are too."""
        json_file = Path(self.target)
        others = [json_file.with_suffix(end) for end, wanted in ((".mid", self.midi), (".csv", self.csv)) if wanted]
        return [*others, json_file]


def check_transcripts(spec: TranscriberSpec, recordings: Sequence[Recording], settings: Any) -> None:
    """Checks that files that exist already are transcripts of the same recordings, made in the same way.

    Raises:
        ConfigError: one is not; nothing is overwritten.
        AudioError: a recording whose transcript exists cannot be read.
    """
    for recording in recordings:
        if Path(recording.target).exists():
            _finished(recording, _key(_causes(spec, _read(spec, recording), settings)))


def transcribe_file(spec: TranscriberSpec, recording: Recording, settings: Any, store: str) -> list[Path]:
    """Writes the notes of a recording; returns the paths of the files.

    Idempotent: finished files are kept, and finished blocks are in the store.

    Raises:
        AudioError: the recording cannot be read, or is shorter than 10 ms.
        StoppedError: the process was asked to stop; finished blocks are stored.
    """
    audio = _read(spec, recording)
    causes = _causes(spec, audio, settings)
    notes = _finished(recording, _key(causes))
    if notes is None or not all(path.exists() for path in recording.paths):
        made = notes or _transcribe(spec, audio, settings, store, causes)
        _write(recording, made, {"key": _key(causes), "audio": Path(recording.audio).name, "model": spec.config.name})
        notes = made
    log.info(
        "%s: %d notes; %d invalid and %d dropped events, %d truncated segments", recording.audio, len(notes),
        notes.invalid_events, notes.dropped_events, notes.truncated_segments,
    )  # fmt: skip
    return recording.paths


def _transcribe(
    spec: TranscriberSpec, audio: NDArray[np.float32], settings: Any, store: str, causes: dict[str, Any]
) -> Notes:
    """Returns the notes of a recording; its blocks are sealed one by one, and those that are stored are read."""
    transcriber, tokens = spec.open(), open_store(store)
    sequential = transcriber.is_sequential(settings)
    count = transcriber.block_count(len(audio))
    of_block: list[dict[str, Any]] = []
    for index in range(count):
        reads = _key(of_block[-1]) if sequential and of_block else ""
        of_block.append({**causes, "block": index, "reads": reads})
    blocks: list[NDArray[np.int32]] = []
    for each in of_block:
        found = tokens.find(_key(each))
        if found is None:
            break
        blocks.append(found.tokens)
    for block in transcriber.blocks(audio, settings, list(blocks)):
        tokens.seal(_key(of_block[len(blocks)]), block, first=len(blocks), causes=of_block[len(blocks)])
        blocks.append(block)
        if len(blocks) < count:
            stopping.check()
    return transcriber.notes_of(blocks, settings, seconds=len(audio) / spec.config.sample_rate)


def _read(spec: TranscriberSpec, recording: Recording) -> NDArray[np.float32]:
    return read_audio(recording.audio, rate=spec.config.sample_rate)


def _causes(spec: TranscriberSpec, audio: NDArray[np.float32], settings: Any) -> dict[str, Any]:
    """Returns all that decides the notes of a recording."""
    return {
        "schema": _SCHEMA,
        "family": spec.family,
        "weights": spec.weights.identity,
        "dtype": spec.dtype,
        "engine": ENGINE_VERSION,
        "audio": digest_bytes(audio.data),  # without a copy: it may last hours
        **open_transcribing(spec.family).transcription_causes(spec.config, settings),
    }


def _key(causes: dict[str, Any]) -> str:
    return digest(causes)


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
    except (RecordError, AttributeError, NotesError):
        pass
    raise ConfigError(
        f"{path} exists, and is not the transcript of {recording.audio} with these settings; nothing is overwritten: "
        "remove it, or choose another folder"
    )


def _write(recording: Recording, notes: Notes, extra: dict[str, Any]) -> None:
    for path in recording.paths:
        if path.suffix == ".mid":
            notes.to_midi(path)
        elif path.suffix == ".csv":
            notes.to_csv(path)
        else:
            notes.to_json(path, extra)
