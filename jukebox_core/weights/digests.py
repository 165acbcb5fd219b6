"""Remembers the digest of every fetched file, next to the files: trust on first use, compared ever after.

Most of the released files' digests were never published. The first verified download writes them down; a later one
that differs is refused. Imports no torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from jukebox_core.atomic import written_whole
from jukebox_core.errors import DownloadError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDS_NAME = "fetched.json"


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a fetched file."""

    bytes: int
    sha256: str
    source: str  # where it came from
    modified_ns: int  # of the file when it was hashed; while it and the size agree, the digest holds


def sha256_of(path: Path) -> str:
    """The file's sha256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_records(folder: Path) -> dict[str, Record]:
    """The records of the files in ``folder``, by their path in it.

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


def write_record(folder: Path, name: str, record: Record) -> None:
    """Adds or replaces one record, while no other process does."""
    with locked(folder / f".{RECORDS_NAME}.lock"):
        records = read_records(folder) | {name: record}
        content = {key: asdict(records[key]) for key in sorted(records)}
        with written_whole(folder / RECORDS_NAME) as file:
            file.write((json.dumps(content, indent=2) + "\n").encode())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process is in such a block for the same ``path``; the system ends it with its process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
