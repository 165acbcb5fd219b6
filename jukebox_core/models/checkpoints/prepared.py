"""What was made of weights so that they load fast: kept in a folder of the library, made anew whenever it is missing.

Each file is recorded beside the fetched ones, with the digest of the weights that it was made of. Imports no torch.
"""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from jukebox_core.base.text import format_bytes
from jukebox_core.errors import DownloadError
from jukebox_core.models.checkpoints.convert import copy_is_current, written_once
from jukebox_core.models.digests import Record, read_records, record_name, verified_digest, write_record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

log = logging.getLogger("jukebox")

FOLDER = "prepared"
_SPARE_DISK = 1_000_000_000  # left to the songs


def is_sound(path: Path, library: Path, origin: str) -> bool:
    """Whether the file at ``path`` is there, made of the weights with the digest ``origin``, and as it was written.

    It is hashed only if its time changed since it was recorded.
    """
    if not copy_is_current(path, library, origin):
        return False
    try:
        verified_digest(library, path)
    except DownloadError:
        log.warning("%s is not what was written there; it is made anew", path)
        discard(path, library)
        return False
    return True


def keep(path: Path, library: Path, origin: str, size: int, write: Callable[[], None]) -> None:
    """Has ``write`` make the file at ``path``, of about ``size`` bytes, and records it; one process at a time.

    Files that it takes the place of, whose names differ in what follows the last dash, go. Where there is no room, or
    nothing can be written, one line says so: the file saves time and nothing else.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < size + _SPARE_DISK:
            log.warning(
                "%s are free in %s, too few to keep %s that would load faster next time", format_bytes(free),
                path.parent, format_bytes(size),
            )  # fmt: skip
            return
        for old in path.parent.glob(f"{path.stem.rpartition('-')[0]}-*{path.suffix}"):
            if old != path:
                discard(old, library)
        written_once(path, library, origin, "prepared to load faster", write)
    except OSError as error:
        log.warning("weights are not kept as they load faster: %s", error)


def prepared_files(library: Path) -> dict[Path, Record]:
    """The files that are kept in the weights folder ``library``, and what is recorded of each."""
    folder = library / FOLDER
    named = {library / name: record for name, record in read_records(library).items()}
    return {path: record for path, record in named.items() if path.parent == folder and path.is_file()}


def remove_prepared(library: Path, origins: Collection[str] | None = None) -> list[Path]:
    """Removes the files that were made of weights with one of the digests ``origins``, or all; returns them."""
    gone = [path for path, record in prepared_files(library).items() if origins is None or record.origin in origins]
    for path in gone:
        discard(path, library)
    return gone


def discard(path: Path, library: Path) -> None:
    """Removes a file that is kept, and what is recorded of it."""
    path.unlink(missing_ok=True)
    path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
    write_record(library, record_name(library, path), None)
