"""Digests of the files in a folder of the library, kept beside them: trusted on first use, compared ever after.

Most released files' digests were never published. The first verified download records them; a later one that differs
is refused. Files that were made of others (conversions, prepared weights) are recorded with the digest of their origin.
Imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest_file
from jukebox_core.base.locks import locked
from jukebox_core.base.records import read_regular
from jukebox_core.base.structuring import build
from jukebox_core.errors import CheckpointError, DownloadError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from jukebox_core.models.config import FileSpec

RECORDS_NAME = "fetched.json"


@dataclass(frozen=True, slots=True)
class Record:
    """Size, digest and origin of a file."""

    bytes: int
    sha256: str
    source: str  # where it came from
    modified_ns: int  # of the file when it was hashed; while it and the size agree, the digest holds
    verified: str = ""  # when it was hashed, ISO format, UTC
    origin: str | None = None  # sha256 of the file that this one was made from, if it was

    @property
    def identity(self) -> str:
        """Digest of the file as it was published: of its origin, if it was made from another."""
        return self.origin or self.sha256


class Records:
    """The records of one folder, parsed once, and again only after another process has replaced them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Record] = {}
        self._stamp: tuple[int, ...] | None = None

    def read(self) -> Mapping[str, Record]:
        """Returns the records by path below the folder; files elsewhere are named by their absolute path.

        Raises:
            DownloadError: the records are damaged.
        """
        path = self.folder / RECORDS_NAME
        try:
            stat = path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamp:
                entries = json.loads(read_regular(path, links=True))
                self._known = {name: build(Record, entry, name) for name, entry in entries.items()}
                self._stamp = stamp
        except FileNotFoundError:
            self._known, self._stamp = {}, None
        except (RecordError, ValueError, RecursionError, AttributeError) as error:
            raise DownloadError(
                f"{path} is damaged ({error}); delete it, and files are hashed and recorded again"
            ) from error
        return self._known

    def get(self, path: Path) -> Record | None:
        """Returns the record of the file at `path`, in the folder or elsewhere."""
        return self.read().get(self._name(path))

    def add(self, path: Path, sha256: str, source: str, origin: str | None = None) -> Record:
        """Records the file at `path`, whose digest was just computed, and returns the record."""
        stat = path.stat()
        record = Record(stat.st_size, sha256, source, stat.st_mtime_ns, now(), origin)
        self._replace(path, record)
        return record

    def remove(self, path: Path) -> None:
        """Removes the file at `path`, if it exists, with its lock and its record."""
        path.unlink(missing_ok=True)
        path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
        self._replace(path, None)

    def holds(self, spec: FileSpec) -> bool:
        """Whether the folder has the file with a size that agrees with `spec` and its record; nothing is hashed."""
        path = self.folder / spec.path
        record = self.get(path)
        return spec.fits(path) and (record is None or record.bytes == path.stat().st_size)

    def is_sound(self, path: Path, published: str | None = None) -> bool:
        """Whether `verify` finds no fault."""
        try:
            self.verify(path, published=published)
        except DownloadError:
            return False
        return True

    def verify(
        self,
        path: Path,
        *,
        published: str | None = None,
        known_as: Path | None = None,
        pinned: bool = True,
        again: bool = False,
    ) -> Record:
        """Returns the record of the file at `path`, which is hashed if its size or time changed since it was recorded.

        Args:
            path: the file, in the folder or elsewhere.
            published: the sha256 that it must have.
            known_as: the file whose recorded digest it must have, if it has no record of its own.
            pinned: its recorded digest must stay; else new content is recorded.
            again: hash it in any case.

        Raises:
            DownloadError: the file is absent, or its digest is not the published or recorded one.
        """
        if not path.is_file():
            raise DownloadError(f"{path} is not there; fetch the model first")
        stat, record = path.stat(), self.get(path)
        unchanged = record is not None and (record.bytes, record.modified_ns) == (stat.st_size, stat.st_mtime_ns)
        found = record.sha256 if record is not None and unchanged and not again else digest_file(path)
        first = record or (self.get(known_as) if known_as is not None else None)
        expected = published or (first.sha256 if first and pinned else found)
        if found != expected:
            basis = "published" if published else f"recorded in {self.folder / RECORDS_NAME}"
            raise DownloadError(
                f"{path} has sha256 {found}, but it must be {expected}, as {basis}; delete the file to fetch it again"
            )
        if record is not None and unchanged and not again and record.verified:
            return record
        return self.add(path, found, *((record.source, record.origin) if record else ("found in place", None)))

    def is_current(self, path: Path, origin: str | None) -> bool:
        """Whether the file at `path` is complete and made from the file with the sha256 `origin` (None: any)."""
        record = self.get(path)
        if record is None or record.origin is None or origin not in (None, record.origin):
            return False
        return path.is_file() and path.stat().st_size == record.bytes

    def make(self, path: Path, origin: str, source: str, write: Callable[[], None], *originals: Path) -> Record:
        """Returns the record of `path`, which `write` makes of `originals` unless it is current; idempotent.

        One process at a time makes it.

        Raises:
            CheckpointError: as `write` does; the one of the originals that the message names is set aside.
        """
        with locked(path.with_name(f".{path.name}.lock")):
            if not self.is_current(path, origin):
                try:
                    write()
                except CheckpointError as error:
                    at_fault = next((each for each in originals if str(each) in str(error)), None)
                    if at_fault is None or not at_fault.exists():
                        raise
                    raise CheckpointError(f"{error}. It was set aside as {set_aside(at_fault).name}") from error
                return self.add(path, digest_file(path), source, origin)
        return self.verify(path)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path.absolute())

    def _replace(self, path: Path, record: Record | None) -> None:
        name = self._name(path)
        with locked(self.folder / f".{RECORDS_NAME}.lock"):
            known = {key: each for key, each in self.read().items() if key != name}
            if record is not None:
                known[name] = record
            elif name not in self._known:
                return
            content = {key: asdict(known[key]) for key in sorted(known)}
            with atomic_write(self.folder / RECORDS_NAME) as file:
                file.write((json.dumps(content, indent=2) + "\n").encode())


def now() -> str:
    """Returns the time in UTC, ISO format, for a record."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def set_aside(path: Path) -> Path:
    """Renames a damaged file to ``<name>.damaged``, so that the user can look at it; returns the new path."""
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    return aside
