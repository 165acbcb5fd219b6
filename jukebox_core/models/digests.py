"""Remembers the digest of every fetched file, next to the files: trust on first use, compared ever after.

Most of the released files' digests were never published. The first verified download writes them down; a later one
that differs is refused. Imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest_file
from jukebox_core.base.locks import locked
from jukebox_core.errors import DownloadError

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.models.config import FileSpec

RECORDS_NAME = "fetched.json"
ABOUT = 0.005  # how far an approximate size may be off, as a share of it


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a file."""

    bytes: int
    sha256: str
    source: str  # where it came from
    modified_ns: int  # of the file when it was hashed; while it and the size agree, the digest holds
    verified: str = ""  # when it was hashed, ISO format, UTC
    origin: str | None = None  # sha256 of the file that this one was made from, if it was


def now() -> str:
    """The time, for a record."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def size_fault(spec: FileSpec, size: int) -> str | None:
    """What is wrong with a size, in words; None if nothing is."""
    if spec.bytes is not None and size != spec.bytes:
        return f"{size:,} bytes, but the file has {spec.bytes:,}"
    if spec.bytes is None and spec.about_bytes is not None and abs(size - spec.about_bytes) > ABOUT * spec.about_bytes:
        return f"{size:,} bytes, but the file has about {spec.about_bytes:,} (within {ABOUT:.1%})"
    return None


def largest(spec: FileSpec) -> int | None:
    """The most bytes that the file can have; None if nothing is known."""
    if spec.bytes is not None:
        return spec.bytes
    return None if spec.about_bytes is None else int(spec.about_bytes * (1 + ABOUT))


def read_records(folder: Path) -> dict[str, Record]:
    """The records of the files in ``folder``, by their path in it; of files elsewhere by their whole path.

    Raises:
        DownloadError: the records are damaged.
    """
    path = folder / RECORDS_NAME
    try:
        return {name: Record(**entry) for name, entry in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise DownloadError(
            f"{path} is damaged ({error}); delete it, and files are hashed and recorded anew"
        ) from error


def write_record(folder: Path, name: str, record: Record | None) -> None:
    """Adds, replaces or, for None, drops one record, while no other process does."""
    with locked(folder / f".{RECORDS_NAME}.lock"):
        records = read_records(folder)
        records.pop(name, None)
        if record is not None:
            records[name] = record
        content = {key: asdict(records[key]) for key in sorted(records)}
        with atomic_write(folder / RECORDS_NAME) as file:
            file.write((json.dumps(content, indent=2) + "\n").encode())


def verified_digest(
    folder: Path,
    path: Path,
    *,
    published: str | None = None,
    known_as: str | None = None,
    pinned: bool = True,
    again: bool = False,
) -> str:
    """The sha256 of the file at ``path``: from its record while size and time are unchanged, else computed.

    Args:
        folder: holds the records.
        path: the file, in ``folder`` or elsewhere.
        published: the digest that it must have.
        known_as: whose record tells the digest that it must have, if it has no record of its own.
        pinned: what was recorded once must stay; else a new content is recorded anew.
        again: compute it whatever the record says.

    Raises:
        DownloadError: the file is absent, or its digest is not the published or recorded one.
    """
    if not path.is_file():
        raise DownloadError(f"{path} is not there; fetch the model first")
    stat, name = path.stat(), record_name(folder, path)
    records = read_records(folder)
    record = records.get(name)
    unchanged = record is not None and (record.bytes, record.modified_ns) == (stat.st_size, stat.st_mtime_ns)
    found = record.sha256 if record is not None and unchanged and not again else digest_file(path)
    first = record or records.get(known_as or name)
    wanted = published or (first.sha256 if first and pinned else found)
    if found != wanted:
        basis = "published" if published else f"recorded in {folder / RECORDS_NAME}"
        raise DownloadError(
            f"{path} has sha256 {found}, but it must be {wanted}, as {basis}; delete the file to fetch it again"
        )
    if not unchanged or again or record is None or not record.verified:
        source, origin = (record.source, record.origin) if record else ("found in place", None)
        write_record(folder, name, Record(stat.st_size, found, source, stat.st_mtime_ns, now(), origin))
    return found


def record_name(folder: Path, path: Path) -> str:
    """The name under which the records in ``folder`` know the file at ``path``."""
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path.absolute())
