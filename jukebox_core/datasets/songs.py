"""A folder of audio with metadata: the songs of a training set. Imports no torch.

Metadata are one file in the folder, ``metadata.csv`` (with a header) or ``metadata.jsonl`` (one object per line). Its
columns are path, artist, genre and lyrics, all but the path optional; the path is relative to the folder. Songs without
a line have unknown artist and genre.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.paths import files_below, shortened, user_path
from jukebox_core.base.text_files import TABLE_BYTES, UnreadableError, read_text
from jukebox_core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Split = Literal["train", "validation", "all"]

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".m4a", ".opus", ".aac", ".aif", ".aiff", ".oga", ".wma")
METADATA_NAMES = ("metadata.csv", "metadata.jsonl")

_UNKNOWN = "unknown"
_COLUMNS = ("path", "artist", "genre", "lyrics")


@dataclass(frozen=True, kw_only=True, slots=True)
class Song:
    """One recording with its metadata."""

    name: str  # path relative to the folder, with forward slashes; decides the song's split
    path: Path
    artist: str = _UNKNOWN
    genre: str = _UNKNOWN
    lyrics: str = ""


def scan_songs(folder: str | Path, metadata: str | Path | None = None) -> list[Song]:
    """Returns the songs of a folder and its subfolders, sorted by name.

    Args:
        folder: holds audio files, at any depth.
        metadata: the metadata file; None: ``metadata.csv`` or ``metadata.jsonl`` in the folder, if any.

    Raises:
        ConfigError: no such folder, no audio in it, or metadata that are malformed or name missing files.
    """
    root = user_path(folder)
    if not root.is_dir():
        raise ConfigError(f"{root} is not a folder; name the folder that holds the audio files")
    paths = {path.relative_to(root).as_posix(): path for path in files_below(root, AUDIO_SUFFIXES)}
    if not paths:
        raise ConfigError(f"{root} holds no {', '.join(AUDIO_SUFFIXES)} file; add audio files, or name their folder")
    file = _metadata_file(root, metadata)
    known = {} if file is None else _read_metadata(file)
    missing = [name for name in known if name not in paths]
    if missing:
        hint = did_you_mean(missing[0], paths)
        raise ConfigError(
            f"{file} names {len(missing)} files that are not in {root}, first {missing[0]!r}{hint}; correct its paths"
        )
    return [Song(name=name, path=path, **known.get(name, {})) for name, path in paths.items()]


def select_split(songs: Iterable[Song], split: Split, share: float) -> list[Song]:
    """Returns the songs of a split; about ``share`` of all songs are for validation.

    A song's split depends only on its name: adding or removing other songs does not change it.

    Raises:
        ConfigError: ``share`` is not in [0, 1).
    """
    return [song for song in songs if split in ("all", split_of(song.name, share))]


def split_of(name: str, share: float) -> Split:
    """Returns the split of the song of that name, train or validation; errors as of `select_split`."""
    if not 0 <= share < 1:
        raise ConfigError(f"validation is {share}; it is the share of songs held out: from 0 to below 1")
    place = int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8], "big") / 2**64
    return "validation" if place < share else "train"


def write_metadata(path: Path, songs: Sequence[Song]) -> None:
    """Writes the metadata of songs as a ``metadata.jsonl``, atomically."""
    lines = [
        json.dumps({"path": song.name, "artist": song.artist, "genre": song.genre, "lyrics": song.lyrics})
        for song in songs
    ]
    with atomic_write(path) as file:
        file.write("".join(line + "\n" for line in lines).encode())


def _metadata_file(root: Path, given: str | Path | None) -> Path | None:
    if given is not None:
        return user_path(given)
    found = [root / name for name in METADATA_NAMES if (root / name).is_file()]
    if len(found) > 1:
        raise ConfigError(f"{root} holds both {' and '.join(METADATA_NAMES)}; keep one of them, or name it")
    return found[0] if found else None


def _read_metadata(file: Path) -> dict[str, dict[str, str]]:
    try:
        text = read_text(file, TABLE_BYTES)
    except UnreadableError as error:
        raise ConfigError(f"metadata {file} cannot be read: {error}") from None
    rows = _json_rows(text, file) if file.suffix == ".jsonl" else _csv_rows(text, file)
    known: dict[str, dict[str, str]] = {}
    for line, row in rows:
        where = f"{file}:{line}"
        _check_columns(row, where)
        name = Path(row["path"]).as_posix()
        if name in known:
            raise ConfigError(f"{where} names {name!r} a second time; keep one line for each file")
        known[name] = {column: row[column] for column in ("artist", "genre", "lyrics") if row.get(column)}
    return known


def _csv_rows(text: str, file: Path) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    rows = []
    try:
        _check_header(reader.fieldnames or (), file)
        for row in reader:
            if "" in row:
                raise ConfigError(f"{file}:{reader.line_num} has more fields than columns; quote commas in its text")
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise ConfigError(f"{file}:{reader.line_num} is not CSV ({error}); quote its text") from None
    return rows


def _check_header(names: Sequence[str], file: Path) -> None:
    """Checks that the first line names columns: without it, the first song would be taken for the names."""
    wanted = f"the first line names the columns: path, and any of {', '.join(_COLUMNS[1:])}, with commas between them"
    if "path" not in names:
        raise ConfigError(f"{file}:1 is {shortened(','.join(names))}, which has no path column; {wanted}")
    for name in names:
        _check_column(name, f"{file}:1")
    if len(set(names)) < len(names):
        raise ConfigError(f"{file}:1 names a column twice; {wanted}")


def _json_rows(text: str, file: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # ValueError: also of numbers with thousands of digits
            raise ConfigError(f"{file}:{number} is not JSON ({error}); write one object a line") from None
        if not isinstance(row, dict):
            raise ConfigError(f'{file}:{number} is {line[:40]!r}; write one object a line, as in {{"path": "a.wav"}}')
        rows.append((number, row))
    return rows


def _check_columns(row: dict[str, Any], where: str) -> None:
    for column, value in row.items():
        _check_column(column, where)
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{where}: {column} is {value!r:.60}; it must be text")
        if column != "path" and value is not None and not _is_storable(value):
            raise ConfigError(f"{where}: {column} is {shortened(value)}; write it without NUL and halves of characters")
    if not row.get("path"):
        raise ConfigError(f"{where} has no path; give the path of the line's audio file")


def _check_column(column: str, where: str) -> None:
    if column not in _COLUMNS:
        hint = did_you_mean(column, _COLUMNS)
        raise ConfigError(f"{where} has a column {shortened(column)}; the columns are {', '.join(_COLUMNS)}{hint}")


def _is_storable(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
