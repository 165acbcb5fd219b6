"""Atomic writes: a file appears with its whole content or not at all. Imports no torch.

A temporary file is locked while it is written, so that `sweep` removes what a killed process has left and nothing that
a living one still writes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from jukebox_core.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a disk without space or inodes, or of a quota that is used up."""
DISK = FULL | {errno.EROFS, errno.EIO, errno.EFBIG}
"""Error numbers that come from a disk, whatever is written."""

_FEW = 8  # inodes
_MUCH = 1_000_000  # bytes
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8}\.tmp")
_REASONS = {
    errno.EROFS: "its disk is read-only; choose another place",
    errno.EIO: "its disk fails; save what is on it, and choose another place",
    errno.EFBIG: "it is larger than its disk or the limit of this process (ulimit -f) allows; raise that, or choose "
    "another place",
    errno.EISDIR: "a folder is in its place; move that away",
    errno.ENOTDIR: "something that is no folder is in its path; move that away",
    errno.EEXIST: "something that is no folder is in its path; move that away",
    errno.EACCES: "access was refused; check the owner and mode of its folder, or choose another place",
    errno.EPERM: "access was refused; check the owner and mode of its folder, or choose another place",
}


def write_error(path: Path, error: OSError) -> DiskError:
    """Returns the error to raise, with the remedy, after writing `path` failed with `error`."""
    if isinstance(error, DiskError):
        return error
    if error.errno in FULL:
        message = f"no {lacking(path)} left in {path.parent} for {path.name}; free some or choose another place"
        return DiskError(f"{message} (what is stored is valid, and the same command continues)", error.errno)
    reason = _REASONS.get(error.errno or 0)
    if reason is None:
        reason = f"{error.strerror or error}; choose another place"
    return DiskError(f"{path} cannot be written: {reason}", error.errno)


_START = 200  # bytes of a file's name that its temporary one begins with, which must not be too long either


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Gives a temporary binary file to write and read; it replaces `path` when the block ends without an exception.

    The folder is created if it does not exist. The content is synchronised to disk before the rename, so a power loss
    leaves the old file or the new one. If the block raises, the temporary file is removed.

    Raises:
        DiskError: the file cannot be written. It is an OSError too.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_temporary(path.parent, path.name) as (temporary, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
            synchronise(path.parent)
    except OSError as error:
        raise write_error(path, error) from error


@contextmanager
def locked_temporary(folder: Path, name: str) -> Iterator[tuple[Path, BinaryIO]]:
    """Gives a new, locked file ``.<name>.<digits>.tmp`` in `folder`; it is removed at the end, unless it was renamed.

    Raises:
        OSError: the file cannot be created.
    """
    start = name.encode(errors="ignore")[:_START].decode(errors="ignore")
    while True:
        path = folder / f".{start}.{secrets.token_hex(4)}.tmp"
        file = path.open("x+b")
        try:
            with file:
                _try_lock(file.fileno())
                if not path.exists():  # swept between its creation and its locking
                    continue
                yield path, file
        finally:
            path.unlink(missing_ok=True)
        return


def atomic_replace(source: Path, target: Path) -> None:
    """Renames a complete file within its file system; content and name are on disk when the call returns.

    Raises:
        DiskError: the file cannot be synchronised or renamed. It is an OSError too.
    """
    try:
        with source.open("rb") as file:
            os.fsync(file.fileno())
        source.replace(target)
        synchronise(target.parent)
    except OSError as error:
        raise write_error(target, error) from error


def synchronise(folder: Path) -> None:
    """Waits until the entries of a folder are on disk: a new name is one of them.

    Raises:
        OSError: they cannot be.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path, *, remove: bool = True) -> tuple[int, int]:
    """Removes the temporary files in `folder` and below that killed processes have left; returns how many, and bytes.

    A file that a living process writes is locked, and stays. What cannot be read or removed stays too. With
    ``remove=False`` they are only counted.
    """
    count = size = 0
    for path, _, names in os.walk(folder):
        for name in filter(_TEMPORARY.fullmatch, names):
            with contextlib.suppress(OSError):
                freed = _remove_unlocked(os.path.join(path, name), remove=remove)  # noqa: PTH118 - of a walk by names
                count, size = count + (freed is not None), size + (freed or 0)
    return count, size


def _remove_unlocked(path: str, *, remove: bool) -> int | None:
    """Removes a regular file that no process has locked, and returns its size; returns None if one has."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        size = os.fstat(descriptor).st_size
        if not _try_lock(descriptor):
            return None
        if remove:
            os.unlink(path)  # noqa: PTH108 - a name of a walk
    finally:
        os.close(descriptor)
    return size


def _try_lock(descriptor: int) -> bool:
    """Locks an open file until it is closed; returns whether that could be done."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system has no locks, so that nothing is swept there
        return False
    return True


def lacking(path: Path) -> str:
    """Returns what the full file system of `path`, a file, has none of: "inodes" or "space"."""
    for folder in path.parents:
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            few = found.f_files and found.f_favail < _FEW  # not none: what could not be completed was removed again
            return "inodes" if few and found.f_bavail * found.f_frsize > _MUCH else "space"
    return "space"
