"""Makes a folder of codes out of a folder of recordings: each is looked at, labelled, and encoded once."""

from __future__ import annotations

import errno
import json
import logging
import shutil
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.structuring import to_plain
from jukebox_core.base.text import format_bytes
from jukebox_core.datasets.checks import Checks
from jukebox_core.datasets.songs import Song, scan_songs
from jukebox_core.datasets.windows import CodesIndex, EncodedSong, read_index, write_index
from jukebox_core.errors import LabelError, StoreError
from jukebox_core.families.jukebox.conditioning.labels import label_levels
from jukebox_core.families.jukebox.conditioning.lyrics import alphabet
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.tokens.codes import Codes, read_codes, write_codes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.datasets.checks import Checked
    from jukebox_core.datasets.config import CheckConfig
    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.family import ModelConfig
    from stages.handles import FileHandle
    from stages.resident import CodecSpec

log = logging.getLogger("jukebox")

REPORT_NAME = "checks.json"

_NAMED = 3  # songs that an error names
_TOKEN_BYTES = 2  # about what a token takes in a codes file
_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_labels(config: JukeboxConfig, vocabularies: Mapping[str, FileHandle], songs: Sequence[Song]) -> None:
    """Checks that a model knows the artist, the genre and the letters of every song.

    Raises:
        LabelError: it does not; the first few songs are named, with near misses.
    """
    known = load_vocabularies({role: handle.read() for role, handle in vocabularies.items()})
    wrong: list[str] = []
    partly: list[str] = []
    lyrics = config.priors[config.top].lyrics
    for song in songs:
        try:
            label_levels(
                known, config, artist=song.artist, genre=song.genre, lyrics=song.lyrics, total_length=1, offset=0
            )
        except LabelError as error:
            wrong.append(f"{song.name}: {error}")
        else:
            if lyrics is not None and len(alphabet(lyrics.characters).clean(song.lyrics)) < len(song.lyrics):
                partly.append(song.name)
    if wrong:
        more = f"\nand {len(wrong) - _NAMED} more songs" if len(wrong) > _NAMED else ""
        raise LabelError("\n".join(wrong[:_NAMED]) + more)
    if partly:
        log.warning(
            "lyrics of %d songs have characters that the model lacks, first %s: left out", len(partly), partly[0]
        )


def encode_songs(codec: CodecSpec, checks: CheckConfig, songs: Sequence[Song], folder: Path) -> Path:
    """Writes the codes of every song that can be used, at all levels, then the folder's index; returns its path.

    What an earlier, broken off call has encoded is taken as it is, if its sound and its model are the same.

    Raises:
        AudioError: too many files cannot be read, or none can be used.
        StoreError: the disk is full, or the folder cannot be written.
    """
    looked = Checks(checks, codec.config.sample_rate)
    encoded: list[EncodedSong] = []
    try:
        _require_room(codec.config, songs, folder)
        for number, song in enumerate(songs, 1):
            found = looked.check(song)
            if found is not None:
                encoded.append(_encoded(codec, *found, folder))
            if number % 100 == 0:
                log.info("%d of %d songs, %.1f minutes encoded", number, len(songs), looked.seconds / 60)
        _report(looked, folder)
        looked.require_enough(songs[0].path.parent)
        write_index(folder, CodesIndex(_about(codec), encoded))
    except OSError as error:
        full = "the disk is full" if error.errno in _FULL else f"it cannot be written ({error.strerror})"
        raise StoreError(
            f"{folder}: {full}; {len(encoded)} of {len(songs)} songs are encoded and kept: "
            "make room and run the same command, or choose another folder"
        ) from None
    return folder


def check_songs(checks: CheckConfig, songs: Sequence[Song], rate: int, folder: Path) -> Path:
    """Looks at every song and writes what it found; errors as `encode_songs`. Returns the report's path."""
    looked = Checks(checks, rate)
    for song in songs:
        looked.check(song)
    _report(looked, folder)
    looked.require_enough(songs[0].path.parent)
    return folder / REPORT_NAME


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


def _about(codec: CodecSpec) -> dict[str, object]:
    from stages.sound.encode import codes_header

    return codes_header(codec)


def _encoded(codec: CodecSpec, found: Checked, audio: NDArray[np.float32], folder: Path) -> EncodedSong:
    from stages.sound.encode import encode_audio

    hop = codec.config.hops[-1]
    audio = audio[: len(audio) // hop * hop]
    path = folder / f"{found.song.name}.npz"
    about = _about(codec) | {"sound": found.sound}
    if not _holds(path, about):
        levels = range(len(codec.config.hops))
        codes = encode_audio(codec, audio, levels)
        write_codes(path, Codes(dict(zip(levels, codes, strict=True)), about))
    return EncodedSong(
        name=found.song.name,
        codes=path.relative_to(folder).as_posix(),
        samples=len(audio),
        artist=found.song.artist,
        genre=found.song.genre,
        lyrics=found.song.lyrics,
    )


def _holds(path: Path, about: Mapping[str, object]) -> bool:
    try:
        return dict(read_codes(path).about) == dict(about)
    except StoreError:
        return False


def _report(looked: Checks, folder: Path) -> None:
    lines = looked.summary()
    for line in lines:
        log.info("%s", line)
    report = {"summary": lines, "findings": [to_plain(finding) for finding in looked.findings]}
    with atomic_write(folder / REPORT_NAME) as file:
        file.write(json.dumps(report, indent=1).encode())


def _require_room(config: ModelConfig, songs: Sequence[Song], folder: Path) -> None:
    """Checks that all codes will find room, as far as the recordings' headers tell their length."""
    from jukebox_core.audio.files import audio_seconds
    from jukebox_core.errors import AudioError

    seconds = 0.0
    for song in songs:
        try:
            seconds += audio_seconds(song.path)
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
