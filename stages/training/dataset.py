"""Encodes a folder of recordings into a folder of codes: each recording is checked, labelled and encoded once."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest
from jukebox_core.base.paths import LONGEST_NAME
from jukebox_core.base.structuring import to_plain
from jukebox_core.base.text import format_bytes
from jukebox_core.datasets.checks import Checks
from jukebox_core.datasets.recordings import check_recordings
from jukebox_core.datasets.songs import Song, scan_songs
from jukebox_core.datasets.source import check_codes_folder, claim, source_of
from jukebox_core.datasets.windows import CodesIndex, EncodedSong, read_index, write_index
from jukebox_core.errors import StoreError
from jukebox_core.tokens.codes import Codes, read_codes, write_codes
from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.datasets.checks import Checked
    from jukebox_core.datasets.config import CheckConfig
    from jukebox_core.family import ModelConfig
    from jukebox_core.models.presets import ModelSettings
    from stages.handles import FileHandle
    from stages.resident import CodecSpec

log = logging.getLogger("jukebox")

REPORT_NAME = "checks.json"

_TOKEN_BYTES = 2  # about, in a codes file
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_labels(model: ModelSettings, vocabularies: Mapping[str, FileHandle], songs: Sequence[Song]) -> None:
    """Checks that a model can be conditioned on the labels of every song.

    Args:
        model: its settings.
        vocabularies: by role.
        songs: with labels as their metadata say.

    Raises:
        LabelError: it cannot; the first few songs are named, with near misses.
    """
    paths = {role: handle.read() for role, handle in vocabularies.items()}
    model.opened.training().check_labels(model.config, paths, songs)


def encode_songs(codec: CodecSpec, checks: CheckConfig, songs: Sequence[Song], folder: Path) -> Path:
    """Writes the codes of every usable song, at all levels, then the folder's index; returns the folder.

    Idempotent: codes that an interrupted call wrote are kept, if recording and model are the same. Whole codes of a
    recording that was edited since are kept under their name, and the new ones get another one.

    Raises:
        ConfigError: the folder belongs to other recordings; nothing is overwritten.
        AudioError: too many files cannot be read, or none is usable.
        StoreError: the disk is full, or the folder cannot be written.
    """
    checked = Checks(checks, codec.config.sample_rate)
    encoded: list[EncodedSong] = []
    source = source_of(songs)
    check_codes_folder(folder, source, songs)
    try:
        claim(folder, replace(source, codec=codec.weights.identity))
        _check_free_space(codec.config, songs, folder)
        for number, song in enumerate(songs, 1):
            found = checked.check(song)
            if found is not None:
                encoded.append(_encode(codec, *found, folder))
            if number % 100 == 0:
                log.info("%d of %d songs, %.1f minutes encoded", number, len(songs), checked.seconds / 60)
        _write_report(checked, folder)
        checked.require_enough(songs[0].path.parent)
        write_index(folder, CodesIndex(_header(codec), encoded))
    except OSError as error:
        full = "the disk is full" if error.errno in _DISK_FULL else f"it cannot be written ({error.strerror})"
        raise StoreError(
            f"{folder}: {full}; {len(encoded)} of {len(songs)} songs are encoded and kept: "
            "make room and run the same command, or choose another folder"
        ) from None
    return folder


def check_songs(checks: CheckConfig, songs: Sequence[Song], rate: int, folder: Path) -> Path:
    """Checks every song and writes the report; returns its path. Errors as `encode_songs`."""
    checked = Checks(checks, rate)
    source = source_of(songs)
    check_codes_folder(folder, source, songs)
    claim(folder, source)
    for song in songs:
        checked.check(song)
    _write_report(checked, folder)
    checked.require_enough(songs[0].path.parent)
    return folder / REPORT_NAME


def check_training_songs(
    checks: CheckConfig, songs: Sequence[Song], rate: int, record: Path, model: ModelSettings | None = None
) -> None:
    """Checks every song before a training, once: the record names those that can be used, with measured durations.

    Songs that the family of `model` cannot learn from are left out as well.

    Raises:
        AudioError: too many files cannot be read, or none is usable.
        StoppedError: a signal asked the process to stop; songs that were checked are not checked again.
        StoreError: the record cannot be written.
    """
    problem = partial(model.opened.training().song_problem, model.config) if model is not None else None
    checked = Checks(checks, rate, problem)
    try:
        check_recordings(checked, songs, record, stopping.check)
    except OSError as error:
        raise StoreError(f"{record} cannot be written ({error.strerror}); make room, or correct its rights") from None
    for line in checked.summary():
        log.info("%s", line)
    checked.require_enough(songs[0].path.parent)


def find_songs(audio: str, metadata: str | None) -> list[Song]:
    """Returns the songs of a folder; errors as `scan_songs`."""
    songs = scan_songs(audio, metadata)
    log.info("%d recordings in %s", len(songs), audio)
    return songs


def songs_of_codes(codes: Path) -> list[Song]:
    """Returns the songs of a folder of codes, each with the path of its codes; StoreError if it is not finished."""
    return [
        Song(name=song.name, path=codes / song.codes, artist=song.artist, genre=song.genre, lyrics=song.lyrics)
        for song in read_index(codes).songs
    ]


def _header(codec: CodecSpec) -> dict[str, object]:
    from stages.sound.encode import codes_header

    return codes_header(codec)


def _encode(codec: CodecSpec, found: Checked, audio: NDArray[np.float32], folder: Path) -> EncodedSong:
    from stages.sound.encode import encode_audio

    hop = codec.config.hops[-1]
    audio = audio[: len(audio) // hop * hop]
    header = _header(codec) | {"sound": found.sound}
    path = _codes_path(folder, found.song.name)
    about = _header_of(path)
    if about is not None and about != header:
        path = _codes_path(folder, f"{found.song.name}.{digest(header)[:8]}")
        about = _header_of(path)
    if about != header:
        levels = range(len(codec.config.hops))
        codes = encode_audio(codec, audio, levels)
        write_codes(path, Codes(dict(zip(levels, codes, strict=True)), header))
    return EncodedSong(
        name=found.song.name,
        codes=path.relative_to(folder).as_posix(),
        samples=len(audio),
        artist=found.song.artist,
        genre=found.song.genre,
        lyrics=found.song.lyrics,
    )


def _codes_path(folder: Path, name: str) -> Path:
    """Returns the path of a song's codes: the song's name with another suffix, or its digest if that is too long."""
    path = folder / f"{name}.npz"
    return path if len(os.fsencode(path.name)) <= LONGEST_NAME else path.with_name(f"{digest(name)}.npz")


def _header_of(path: Path) -> dict[str, object] | None:
    """Returns what a codes file says of its recording and codec; None if it is missing or damaged."""
    try:
        return dict(read_codes(path).about)
    except StoreError:
        return None


def _write_report(checked: Checks, folder: Path) -> None:
    lines = checked.summary()
    for line in lines:
        log.info("%s", line)
    report = {"summary": lines, "findings": [to_plain(finding) for finding in checked.findings]}
    with atomic_write(folder / REPORT_NAME) as file:
        file.write(json.dumps(report, indent=1).encode())


def _check_free_space(config: ModelConfig, songs: Sequence[Song], folder: Path) -> None:
    """Checks that the disk has room for all codes, estimated from the recordings' headers and sizes."""
    from jukebox_core.audio.files import estimate_seconds
    from jukebox_core.errors import AudioError

    seconds = 0.0
    for song in songs:
        try:
            seconds += estimate_seconds(song.path)
        except AudioError:
            continue
    tokens = seconds * config.sample_rate * sum(1 / hop for hop in config.hops)
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = int(tokens * _TOKEN_BYTES), shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"the codes of {seconds / 60:.0f} minutes need about {format_bytes(needed)}, but {folder} has "
            f"{format_bytes(free)} free; make room, or choose another folder"
        )
