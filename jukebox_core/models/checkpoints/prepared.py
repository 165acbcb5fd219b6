"""Weights converted and laid out for sampling, kept in a folder of the library so that they load faster.

Each file is recorded beside the fetched ones, with the digest of the weights that it was made of; a missing one is made
again. Imports no torch.
"""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from jukebox_core.base.text import format_bytes
from jukebox_core.models.records import Record, Records

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

log = logging.getLogger("jukebox")

FOLDER = "prepared"
_SPARE_DISK = 1_000_000_000  # bytes left to the songs


def is_sound(path: Path, library: Path, origin: str) -> bool:
    """Whether the file at `path` is complete, unchanged, and made of the weights with the digest `origin`.

    It is hashed only if its time changed since it was recorded; a damaged one is removed.
    """
    records = Records(library)
    if not records.is_current(path, origin):
        return False
    if not records.is_sound(path):
        log.warning("%s is damaged; it is made again", path)
        records.remove(path)
        return False
    return True


def keep(path: Path, library: Path, origin: str, size: int, write: Callable[[], None]) -> None:
    """Has `write` make the file at `path`, of about `size` bytes, and records it; one process at a time.

    Older files of the same weights and precision, whose names differ in the part after the last dash, are removed. If
    the disk is full or cannot be written, a warning is logged: the file only saves time.
    """
    records = Records(library)
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
                records.remove(old)
        records.make(path, origin, "prepared to load faster", write)
    except OSError as error:
        log.warning("prepared weights are not kept: %s", error)


def prepared_files(library: Path) -> dict[Path, Record]:
    """Returns the files that are kept in the weights folder `library`, and the record of each."""
    known = {library / name: record for name, record in Records(library).read().items()}
    return {path: record for path, record in known.items() if path.parent == library / FOLDER and path.is_file()}


def remove_prepared(library: Path, origins: Collection[str] | None = None) -> list[Path]:
    """Removes the files that were made of weights with one of the digests `origins`, or all; returns them."""
    kept = prepared_files(library).items()
    removed = [path for path, record in kept if origins is None or record.origin in origins]
    for path in removed:
        discard(path, library)
    return removed


def discard(path: Path, library: Path) -> None:
    """Removes a file that is kept, and its record."""
    Records(library).remove(path)
