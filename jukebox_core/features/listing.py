"""Recordings that a user names: files, folders, patterns and tables, as one list. Imports no torch.

A table is a ``.csv`` file with a header; its column ``path`` is relative to the file, and others are fields of the
song that the network is conditioned on, such as artist. A folder may have ``metadata.csv`` or ``metadata.jsonl``, as
`jukebox_core.datasets.songs` reads them.
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.paths import files_below, is_file, user_path
from jukebox_core.base.text_files import TABLE_BYTES, UnreadableError, read_text
from jukebox_core.datasets.songs import AUDIO_SUFFIXES, METADATA_NAMES, scan_songs
from jukebox_core.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PATTERN = set("*?[")
BUILTIN = "builtin:"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFile:
    """One recording to take features from."""

    name: str  # unique; with forward slashes, of files below a folder relative to it
    path: str
    fields: Mapping[str, str] = field(default_factory=dict)  # of its line in a table, the path excepted


def list_recordings(sources: Sequence[str]) -> list[ListedFile]:
    """Returns the recordings that `sources` name, in their order; those of a folder are sorted.

    Raises:
        AudioError: a file does not exist.
        ConfigError: a folder or pattern without audio, a malformed table, or two recordings of one name.
    """
    found = [listed for source in sources for listed in _listed(source)]
    known: dict[str, ListedFile] = {}
    for listed in found:
        other = known.setdefault(listed.name, listed)
        if other is not listed and other.path != listed.path:
            raise ConfigError(
                f"{other.path} and {listed.path} would both be called {listed.name!r}; rename one of them"
            )
        if other is not listed:
            raise ConfigError(f"{listed.path} is named twice; name each recording once")
    return found


def _listed(source: str) -> Iterator[ListedFile]:
    path = user_path(source)
    if source.startswith(BUILTIN):
        yield ListedFile(name=source.removeprefix(BUILTIN), path=source)
    elif path.is_dir() and any((path / name).is_file() for name in METADATA_NAMES):
        for song in scan_songs(path):
            known = {
                name: text
                for name, text in asdict(song).items()
                if name not in ("name", "path") and text not in ("", "unknown")
            }
            yield ListedFile(name=song.name, path=str(song.path), fields=known)
    elif path.is_dir():
        yield from _named(path, files_below(path, AUDIO_SUFFIXES), source)
    elif path.suffix.lower() == ".csv":
        yield from _of_table(path)
    elif path.is_file():
        yield ListedFile(name=path.name, path=str(path))
    elif _PATTERN & set(source):
        fixed = list(_before_pattern(path))
        root = Path(*fixed)
        yield from _named(root, _matching(root, str(Path(*path.parts[len(fixed) :])), source), source)
    else:
        wrong = (
            "is a device or a pipe, not an audio file; copy its sound into a file"
            if path.exists()
            else "does not exist; correct the path"
        )
        raise AudioError(f"audio file {path} {wrong}")


def _before_pattern(path: Path) -> Iterator[str]:
    for part in path.parts[:-1]:
        if _PATTERN & set(part):
            return
        yield part


def _matching(root: Path, pattern: str, source: str) -> list[Path]:
    try:
        return sorted(p for p in root.glob(pattern) if p.suffix.lower() in AUDIO_SUFFIXES and is_file(p))
    except OSError as error:  # a folder that another program removes, for example
        raise ConfigError(f"{source} cannot be listed ({error.strerror}: {error.filename}); try again") from None


def _named(root: Path, audio: Sequence[Path], source: str) -> Iterator[ListedFile]:
    if not audio:
        raise ConfigError(f"{source} holds no {', '.join(AUDIO_SUFFIXES)} file; name audio files, or their folder")
    for path in audio:
        yield ListedFile(name=path.relative_to(root).as_posix(), path=str(path))


def _of_table(table: Path) -> Iterator[ListedFile]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(table, TABLE_BYTES)), restkey="", strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except (UnreadableError, csv.Error) as error:
        raise ConfigError(f"{table} cannot be read as a table ({error}); give a UTF-8 CSV file") from None
    if not rows:
        raise ConfigError(f"{table} has no lines below its header; name recordings in its column path")
    for line, row in rows:
        where = f"{table}:{line}"
        if "" in row or None in row.values():
            raise ConfigError(f"{where} has more or fewer fields than columns; quote commas in its text")
        name = row.pop("path", "")
        if not name:
            raise ConfigError(f"{where} has no path; a table has a header, and its column path names audio files")
        path = table.parent / user_path(name)
        if not path.is_file():
            raise AudioError(f"{where}: audio file {path} does not exist; paths are relative to the table")
        shown = Path(name).as_posix() if not Path(name).is_absolute() else path.name
        yield ListedFile(name=shown, path=str(path), fields={key: value for key, value in row.items() if value})
