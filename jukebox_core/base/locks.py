"""Locks on local files, which the system releases when the process that holds them ends. Imports no torch."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import write_error
from jukebox_core.base.records import clear_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""Error numbers of a file system that has no locks."""

_held: dict[int, FileLock] = {}  # by descriptor


class FileLock:
    """An exclusive lock on a file: at most one object of one process holds it, and it is free when that process ends.

    A forked child does not inherit the locks of its parent. What is no regular file, such as a folder or a pipe, is
    renamed if it is in the lock's place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self, *, blocking: bool = False) -> bool:
        """Takes the lock and returns True; returns False if another object holds it and `blocking` is false.

        Raises:
            DiskError: the file cannot be created. It is an OSError too.
            OSError: its file system has no locks (an `errno` of `UNSUPPORTED`).
        """
        assert self._descriptor is None, f"{self.path} is locked by this object already"
        if not blocking:
            try:
                return self._try_acquire(fcntl.LOCK_EX | fcntl.LOCK_NB)
            except FileNotFoundError:  # its folder was removed just now
                return False
        while not self._try_acquire(fcntl.LOCK_EX):
            pass  # the file that was waited for has been removed: its lock excludes nobody
        return True

    def is_taken(self) -> bool:
        """Whether any process holds the lock; False if the file does not exist."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in UNSUPPORTED
        finally:
            os.close(descriptor)
        return False

    def write(self, text: str) -> None:
        """Replaces the content of the locked file, such as a description of the holder, as UTF-8."""
        assert self._descriptor is not None, f"{self.path} is not locked"
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode("utf-8"), 0)

    def release(self) -> None:
        """Releases the lock, if it is held."""
        if self._descriptor is not None:
            del _held[self._descriptor]
            os.close(self._descriptor)
            self._descriptor = None

    def _try_acquire(self, operation: int) -> bool:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            clear_place(self.path)  # what is no regular file would exclude no process
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # its folder was removed just now
            raise
        except OSError as error:
            if error.errno in UNSUPPORTED:
                raise
            raise write_error(self.path, error) from error
        current = False
        try:
            fcntl.flock(descriptor, operation)
            current = self.path.stat().st_ino == os.fstat(descriptor).st_ino
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            if not current:
                os.close(descriptor)
        if current:
            self._descriptor = descriptor
            _held[descriptor] = self
        return current


@contextmanager
def locked(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds the lock on the file `path` for the length of the block; waits while another thread or process holds it.

    Args:
        path: the lock file; it and its folder are created if they do not exist.
        on_wait: called once if the lock is not free.

    Raises:
        OSError: as `FileLock.acquire`.
    """
    lock = FileLock(path)
    if not lock.acquire():
        if on_wait is not None:
            on_wait()
        lock.acquire(blocking=True)
    try:
        yield
    finally:
        lock.release()


def _release_in_child() -> None:
    """Closes the descriptors that a fork has copied: a child must not hold its parent's locks after the parent ends."""
    for lock in list(_held.values()):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)
