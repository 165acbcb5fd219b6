"""Folders of features: one ``.npy`` a recording and array, an index of what is finished, and a manifest. No torch.

    features.json     the manifest: model, digests of weights, recipe, rates
    index.jsonl       a line for each recording that was finished, or could not be used; the last line counts
    arrays/NAME.ARRAY.npy

A recording is finished when its arrays are written and its line is. Lines are appended with one write each, so that
several threads and processes of a machine can share a folder, and a torn line costs one recording.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest, digest_file
from jukebox_core.base.paths import LONGEST_NAME, user_path
from jukebox_core.base.records import read_json
from jukebox_core.base.structuring import build
from jukebox_core.errors import ConfigError, DamagedError, RecordError, StoreError, did_you_mean
from jukebox_core.features.config import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

INDEX, ARRAYS = "index.jsonl", "arrays"
SCHEMA = 1
_DIGITS = 9  # bytes of a digest in a name, and the dot before it


class _Digest:
    """A file that is only hashed."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return len(data)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredArray:
    """One array of one recording."""

    file: str  # relative to the folder
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of the index: a recording that is finished, or that could not be used."""

    name: str
    path: str
    causes: str  # hash of everything but the audio that decides the arrays
    audio: str = ""  # SHA-256 of the audio, as it was read
    size: int = 0  # bytes of the file when it was read
    modified_ns: int = 0  # its time then
    seconds: float = 0.0  # of its audio
    arrays: dict[str, StoredArray] = field(default_factory=dict)  # by name, such as layer36
    fields: dict[str, str] = field(default_factory=dict)  # of its line in a table
    error: str | None = None  # why it could not be used


class SourceState(NamedTuple):
    """Size in bytes and time of a recording's file."""

    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: str) -> SourceState:
        """Returns the state of a file; zeros for audio that is no file."""
        try:
            found = Path(path).stat()
        except OSError:
            return NO_SOURCE
        return cls(found.st_size, found.st_mtime_ns)


NO_SOURCE = SourceState(0, 0)


@dataclass(frozen=True, slots=True)
class FeatureFolder:
    """A folder of features."""

    path: Path

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Writes the manifest, atomically; StoreError as `write`."""
        self.write_text(MANIFEST, json.dumps({"schema": SCHEMA, **manifest}, indent=1))

    def write_text(self, name: str, text: str) -> None:
        """Writes a file of the folder, atomically; StoreError as `write`."""
        with self._writing(), atomic_write(self.path / name) as file:
            file.write(text.encode())

    def manifest(self) -> dict[str, Any]:
        """Returns the manifest.

        Raises:
            StoreError: it is missing or damaged, or was written by a newer version of this program.
        """
        path = self.path / MANIFEST
        self._require_file(MANIFEST)
        try:
            found = read_json(path)
        except FileNotFoundError:
            raise StoreError(f"{self.path} has no {MANIFEST}; name a folder that `jukebox features` made") from None
        except RecordError as error:
            raise StoreError(f"{error}; run the command that made it again") from None
        if not isinstance(found, dict) or not isinstance(found.get("schema"), int):
            raise StoreError(f"{path} is no manifest of features; run the command that made it again")
        if found["schema"] > SCHEMA:
            raise StoreError(f"{path} has schema {found['schema']}, newer than {SCHEMA}; update this program")
        return found

    def write(self, entry: Entry, arrays: Mapping[str, NDArray[Any]]) -> Entry:
        """Writes the arrays of a recording and then its line; returns the entry with its arrays.

        Files with other numbers, of an edited recording or other settings, stay: the new ones get another name.

        Raises:
            StoreError: the disk is full, or the folder cannot be written.
        """
        stored = {}
        for name, values in arrays.items():
            file = _array_file(entry.name, name)
            with self._writing():
                file = self._free_name(_array_file(entry.name, name), values)
                path = self.path / file
                with atomic_write(path) as opened:
                    np.save(opened, values, allow_pickle=False)
                stored[name] = StoredArray(file=file, bytes=path.stat().st_size, sha256=digest_file(path))
        written = replace(entry, arrays=stored)
        self.append(written)
        return written

    def _free_name(self, file: str, values: NDArray[Any]) -> str:
        """Returns the name for an array: `file`, or one with a digest in it if that one has other numbers."""
        path = self.path / file
        if not path.is_file():
            return file
        content = _Digest()
        np.save(content, values, allow_pickle=False)
        found = content.hash.hexdigest()
        return file if digest_file(path) == found else f"{file.removesuffix('.npy')}.{found[:8]}.npy"

    def append(self, entry: Entry) -> None:
        """Appends the line of a recording, on disk when the call returns; StoreError as `write`."""
        try:
            text = json.dumps(asdict(entry), ensure_ascii=False).encode()
        except UnicodeEncodeError:  # a name that is not UTF-8
            text = json.dumps(asdict(entry)).encode()
        line = b"\n" + text + b"\n"  # a torn line before it stays one of its own
        self._require_file(INDEX)
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / INDEX, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def entries(self) -> dict[str, Entry]:
        """Returns the last line of each recording by name; lines that are torn or damaged are left out.

        Raises:
            StoreError: the index cannot be read.
        """
        self._require_file(INDEX)
        try:
            text = (self.path / INDEX).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(f"{self.path / INDEX} cannot be read ({error.strerror}); give one that can") from None
        found: dict[str, Entry] = {}
        for line in text.split("\n"):
            try:
                entry = build(Entry, json.loads(line))
            except (ValueError, RecursionError, ConfigError):
                continue
            found[entry.name] = entry
        return found

    def _require_file(self, name: str) -> None:
        """Refuses what is no plain file: reading a pipe, for example, would wait for ever."""
        path = self.path / name
        if path.exists() and not path.is_file():
            raise StoreError(f"{path} is not a file; remove it and run the command again")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written ({error.strerror}); finished recordings are kept: make room and run "
                "the same command, or choose another folder"
            ) from error

    def is_finished(self, entry: Entry) -> bool:
        """Whether all arrays of an entry are there, complete by their sizes."""
        return bool(entry.arrays) and all(
            _size(self.path / array.file) == array.bytes for array in entry.arrays.values()
        )

    def is_current(self, entry: Entry | None, causes: str, source: SourceState, audio: str | None = None) -> bool:
        """Whether an entry has the arrays that `causes` and a recording decide.

        Args:
            entry: of the recording; None if it has none.
            causes: hash of everything else.
            source: size and time of the recording's file: unchanged, they stand for its content.
            audio: digest of the recording's audio, where it has been read.
        """
        if entry is None or entry.causes != causes or not self.is_finished(entry):
            return False
        unchanged = (entry.size, entry.modified_ns) == source and source != NO_SOURCE
        return entry.audio == audio if audio is not None else unchanged


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The finished features of a folder, in the order of their names; arrays are read when they are asked for."""

    path: Path
    about: Mapping[str, Any]  # the manifest
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def names(self) -> list[str]:
        """The names of the recordings."""
        return [entry.name for entry in self.entries]

    @property
    def arrays(self) -> list[str]:
        """The names of the arrays of a recording."""
        return list(dict.fromkeys(name for entry in self.entries for name in entry.arrays))

    def field(self, name: str) -> list[str]:
        """Returns a column of the table that named the recordings, "" where it has no value: labels to learn."""
        return [entry.fields.get(name, "") for entry in self.entries]

    def __getitem__(self, array: str | int) -> Any:
        """Returns an array of all recordings, in the order of `names`; a layer's by its number.

        It is [recordings, ...] where their shapes agree, as those of pooled features do; else a list of arrays, each
        mapped into memory.

        Raises:
            ConfigError: there is no such array.
            DamagedError: a file is missing or damaged.
        """
        key = f"layer{array}" if isinstance(array, int) else array
        if key not in self.arrays:
            raise ConfigError(f"{key!r} is not in {self.path}; its arrays are {', '.join(self.arrays)}")
        found = [self._load(entry, key) for entry in self.entries]
        return np.stack(found) if len({each.shape for each in found}) == 1 else found

    def of(self, name: str) -> dict[str, NDArray[Any]]:
        """Returns the arrays of one recording by name, mapped into memory.

        Raises:
            ConfigError: there is no such recording.
            DamagedError: a file is missing or damaged.
        """
        for entry in self.entries:
            if entry.name == name:
                return {key: self._load(entry, key) for key in entry.arrays}
        raise ConfigError(f"{name!r} is not in {self.path}{did_you_mean(name, self.names)}")

    def verify(self) -> None:
        """Checks the digest of every file.

        Raises:
            DamagedError: one is missing or has other content.
        """
        for entry in self.entries:
            for array in entry.arrays.values():
                path = self.path / array.file
                if not path.is_file() or digest_file(path) != array.sha256:
                    raise _damaged(path)

    def _load(self, entry: Entry, key: str) -> NDArray[Any]:
        path = self.path / entry.arrays[key].file
        try:
            values: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _damaged(path) from error
        return values


def load_features(folder: str | os.PathLike[str]) -> FeatureSet:
    """Returns the features that `jukebox features` wrote to `folder`, as far as they are finished.

    Raises:
        StoreError: it is no such folder, or nothing in it is finished.
    """
    found = FeatureFolder(user_path(folder))
    about, entries = found.manifest(), found.entries()
    wanted = about.get("recordings")
    names = sorted(entries if not isinstance(wanted, list) else (name for name in entries if name in wanted))
    finished = tuple(entries[name] for name in names if found.is_finished(entries[name]))
    if not finished:
        raise StoreError(f"{found.path} has no finished features; run the command that made it again")
    return FeatureSet(found.path, about, finished)


def _array_file(recording: str, array: str) -> str:
    """Returns the path of an array: the recording's name, or its digest where that is too long or leads elsewhere."""
    given = PurePosixPath(f"{recording}.{array}.npy")
    leads_elsewhere = given.is_absolute() or ".." in given.parts
    if leads_elsewhere or len(os.fsencode(given.name)) > LONGEST_NAME - _DIGITS:
        given = PurePosixPath(f"{digest(recording)}.{array}.npy")
    return f"{ARRAYS}/{given}"


def _damaged(path: Path) -> DamagedError:
    return DamagedError(f"{path} is missing or damaged; delete it and run the command that made it again", path.name)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
