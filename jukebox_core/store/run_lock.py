"""One process at a time works on a run, on local disk and on object storage. Imports no torch."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from jukebox_core.base.locks import FileLock
from jukebox_core.base.records import read_regular
from jukebox_core.errors import RecordError, RunError, StoreError
from jukebox_core.store.config import LeaseConfig, RetryConfig
from jukebox_core.store.lease import Lease, Owner
from jukebox_core.store.local import LocalObjects
from jukebox_core.store.objects import open_objects
from jukebox_core.store.retrying import try_lock

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

_log = logging.getLogger("jukebox")
_POLL_SECONDS = 0.2  # between two looks at a lock that another process holds


class RunLock:
    """Locks a run, for the length of a ``with`` block; a second process waits, or raises RunError.

    On local disk the lock ends with the process that holds it. On object storage it is a lease, which expires when its
    owner has not renewed it for ``lease.seconds`` (at once, if the owner was a process of this machine). An owner
    that was paused for longer may have lost the run: then `check` raises, and `on_lost` is called when it is noticed.

    Args:
        place: the folder or address below which the lock is: ``<place>/locks/<name>``.
        name: the run's name.
        wait: wait for the process that holds it; else raise RunError.
        options: settings of the fsspec file system.
        lease: times of a lease.
        on_wait: called once with a line that names the process this one waits for.
        on_lost: called once, from another thread, when the run is found to be lost.
    """

    def __init__(
        self,
        place: str | os.PathLike[str],
        name: str,
        *,
        wait: bool = False,
        options: Mapping[str, Any] | None = None,
        lease: LeaseConfig | None = None,
        on_wait: Callable[[str], None] = _log.info,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        if not re.fullmatch(r"[^/\\\0.][^/\\\0]*", name):
            raise RunError(f"{name!r} cannot be locked; a run's name is that of a folder")
        objects = open_objects(str(place), options, RetryConfig(attempts=3))
        self._name, self._wait, self._on_wait = name, wait, on_wait
        self._held: _LocalRunLock | Lease
        if isinstance(objects, LocalObjects):
            self._held = _LocalRunLock(Path(objects.uri) / "locks" / f"{name}.lock")
        else:
            self._held = Lease(objects, name, lease or LeaseConfig(), on_lost)

    def acquire(self) -> None:
        """Acquires the run, at once or when it is free.

        Raises:
            RunError: another process holds it, and `wait` is false.
            StoreError: the place cannot be used.
        """
        reported = False
        while (owner := self._held.acquire()) is not None:
            expiry = f", or {owner.seconds:g} s after it was killed" if owner.seconds else ""
            if not self._wait:
                raise RunError(
                    f"run {self._name} is worked on by {owner}; it is free when that process ends{expiry}: wait for "
                    "it, or stop it"
                )
            if not reported:
                self._on_wait(f"run {self._name} is worked on by {owner}; waiting until that process ends{expiry}")
                reported = True
            time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Checks that the run is still held; cheap enough to be called before every write.

        Raises:
            RunError: it was lost.
        """
        self._held.check()

    def release(self) -> None:
        """Releases the run, if it is held."""
        self._held.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *raised: object) -> None:
        self.release()


def is_held(place: str, name: str) -> bool | None:
    """Whether any process, on any machine, holds a run; None if that cannot be determined now.

    Args:
        place: as of `RunLock`.
        name: the run's name.
    """
    try:
        objects = open_objects(place, None, RetryConfig(attempts=1))
        if isinstance(objects, LocalObjects):
            path = Path(objects.uri) / "locks" / f"{name}.lock"
            return FileLock(path).is_taken() if path.exists() else None
        return Lease(objects, name, LeaseConfig(), lambda: None).owner() is not None
    except StoreError:
        return None


class _LocalRunLock:
    """A lock on a local file, whose content names its owner."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def acquire(self) -> Owner | None:
        """Acquires the lock if it is free, and returns None; returns its owner if it is not."""
        if try_lock(self._lock):
            with contextlib.suppress(OSError):  # on a full disk: the text is for those who wait, the lock holds
                self._lock.write(Owner.current().to_json())
            return None
        try:
            return Owner.from_json(read_regular(self._lock.path)) or Owner.unknown()
        except (OSError, RecordError):
            return Owner.unknown()

    def check(self) -> None:
        """Does nothing: a local lock cannot be lost."""

    def release(self) -> None:
        """Releases the lock, if it is held."""
        self._lock.release()
