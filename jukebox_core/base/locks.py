"""Locks on local files that end with the process that holds them, however it ends. Imports no torch."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from jukebox_core.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

_UNKNOWN = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_held: dict[int, FileLock] = {}  # by descriptor


class FileLock:
    """An exclusive lock on a file: held by one object of one process at a time, and free when that process is gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Takes the lock, without waiting; returns whether it could be had.

        Raises:
            StoreError: the file cannot be made, or its file system knows no locks.
        """
        assert self._descriptor is None, f"{self.path} is locked by this object already"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # its folder was removed just now
            return False
        except OSError as error:
            raise StoreError(f"lock {self.path} cannot be made ({error}); check the folder's owner and mode") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = self.path.stat().st_ino == os.fstat(descriptor).st_ino  # a lock on a removed file is none
        except (BlockingIOError, FileNotFoundError):
            there = False
        except OSError as error:
            os.close(descriptor)
            if error.errno in _UNKNOWN:
                raise StoreError(f"the file system of {self.path} knows no locks; choose another folder") from error
            raise
        if not there:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        _held[descriptor] = self
        return True

    def taken(self) -> bool:
        """Whether somebody holds it; nobody holds a lock without a file."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _UNKNOWN
        finally:
            os.close(descriptor)
        return False

    def write(self, text: str) -> None:
        """Replaces what the locked file holds: who has it, for those who come later."""
        assert self._descriptor is not None, f"{self.path} is not locked"
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode("utf-8"), 0)

    def release(self) -> None:
        """Gives the lock up, if it is held."""
        if self._descriptor is not None:
            del _held[self._descriptor]
            os.close(self._descriptor)
            self._descriptor = None


def _let_go() -> None:
    """In a forked child: the parent's locks are not its own, and must not outlive the parent through it."""
    for lock in list(_held.values()):
        lock.release()


os.register_at_fork(after_in_child=_let_go)
