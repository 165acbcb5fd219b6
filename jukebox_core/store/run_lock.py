"""One process at a time works on a run, on local disk and on object storage. Imports no torch."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from jukebox_core.base.locks import FileLock
from jukebox_core.errors import RunError, StoreError
from jukebox_core.store.config import LeaseConfig, RetryConfig
from jukebox_core.store.lease import Lease, Owner
from jukebox_core.store.local import LocalObjects
from jukebox_core.store.objects import open_objects
from jukebox_core.store.retrying import try_lock

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

_log = logging.getLogger("jukebox")
_LOOK_SECONDS = 0.2  # between two looks at a lock that another process holds


class RunLock:
    """Holds a run, for the length of a ``with`` block; a second process waits or is turned away.

    On local disk the lock ends with the process that holds it. On object storage it is a lease, which ends when its
    holder has not been heard of for ``lease.seconds`` (at once, if the holder was a process of this machine). A holder
    that was paused for longer may have lost the run: `check` raises then, and `on_lost` is called when it is noticed.

    Args:
        place: the folder or address below which the run is held: ``<place>/locks/<name>``.
        name: the run's name.
        wait: wait for a process that holds it; else raise.
        options: settings of the fsspec file system.
        lease: times of a lease.
        say: told once, in one line, for whom this process waits.
        on_lost: called once, from another thread, when the run turns out to be lost.
    """

    def __init__(
        self,
        place: str | os.PathLike[str],
        name: str,
        *,
        wait: bool = False,
        options: Mapping[str, Any] | None = None,
        lease: LeaseConfig | None = None,
        say: Callable[[str], None] = _log.info,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        if not re.fullmatch(r"[^/\\\0.][^/\\\0]*", name):
            raise RunError(f"{name!r} cannot be locked; a run's name is that of a folder")
        objects = open_objects(str(place), options, RetryConfig(attempts=3))
        self._name, self._wait, self._say = name, wait, say
        self._held: _Local | Lease
        if isinstance(objects, LocalObjects):
            self._held = _Local(Path(objects.uri) / "locks" / f"{name}.lock")
        else:
            self._held = Lease(objects, name, lease or LeaseConfig(), on_lost)

    def acquire(self) -> None:
        """Takes the run, at once or when it is free.

        Raises:
            RunError: another process holds it, and `wait` is false.
            StoreError: the place cannot be used.
        """
        told = False
        while (owner := self._held.acquire()) is not None:
            expiry = f", or {owner.seconds:g} s after it was killed" if owner.seconds else ""
            if not self._wait:
                raise RunError(
                    f"run {self._name} is worked on by {owner}; it is free when that process ends{expiry}: wait for "
                    "it, or stop it"
                )
            if not told:
                self._say(f"run {self._name} is worked on by {owner}; waiting until that process ends{expiry}")
                told = True
            time.sleep(_LOOK_SECONDS)

    def check(self) -> None:
        """Makes sure that the run is still held; cheap enough to be called before every write.

        Raises:
            RunError: it was lost.
        """
        self._held.check()

    def release(self) -> None:
        """Gives the run up, if it is held."""
        self._held.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *raised: object) -> None:
        self.release()


def is_held(place: str, name: str) -> bool | None:
    """Whether some process, on whatever machine, works on a run; None where that cannot be told now.

    Args:
        place: as of `RunLock`.
        name: the run's name.
    """
    try:
        objects = open_objects(place, None, RetryConfig(attempts=1))
        if isinstance(objects, LocalObjects):
            path = Path(objects.uri) / "locks" / f"{name}.lock"
            return FileLock(path).is_taken() if path.exists() else None
        return Lease(objects, name, LeaseConfig(), lambda: None).holder() is not None
    except StoreError:
        return None


class _Local:
    """A lock on a local file, which tells who holds it."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def acquire(self) -> Owner | None:
        """Takes the lock if it is free, and returns None; returns its owner if it is not."""
        if try_lock(self._lock):
            self._lock.write(Owner.this().text())
            return None
        return Owner.parse(self._lock.path.read_bytes()) or Owner.unknown()

    def check(self) -> None:
        """A local lock cannot be lost."""

    def release(self) -> None:
        """Gives the lock up, if it is held."""
        self._lock.release()
