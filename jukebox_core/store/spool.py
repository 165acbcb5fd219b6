"""A spool: a queue on local disk of windows for a remote store, delivered by uploader threads. Imports no torch.

A written window is stored on disk first and delivered at once; while the store answers, the writer waits for the
delivery. Every writing process has a folder of its own (see `spool_adoption`). The windows of a process that has ended
are adopted by the next one.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jukebox_core.base.text import format_bytes
from jukebox_core.errors import DamagedError, StoreError, UnreachableError
from jukebox_core.store.spool_adoption import SpoolFolders, spool_folder
from jukebox_core.store.spool_health import SpoolHealth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jukebox_core.store.config import SpoolConfig
    from jukebox_core.store.format import Stored
    from jukebox_core.store.store import TokenStore

_log = logging.getLogger("jukebox.store")
_UPLOADERS = 8  # windows that are delivered in parallel
_POLL_SECONDS = 0.1  # between two looks at the folders of other processes


@dataclass(frozen=True, slots=True)
class _Pending:
    """One window that is to be delivered."""

    sealed: bool
    version: int  # counts what was put
    size: int  # bytes on disk
    adopted: bool  # left by another process: the store may have a newer partial


class Spool:
    """The windows that this process has yet to deliver to one store, and those of other processes of this machine.

    Args:
        remote: the store; its requests should fail fast, since they are repeated here.
        config: where windows are kept, and for how long.
    """

    def __init__(self, remote: TokenStore, config: SpoolConfig) -> None:
        self.folder = spool_folder(remote.uri, config.folder)
        self._remote, self._config = remote, config
        self._changed = threading.Condition()  # guards everything below
        self._folders = SpoolFolders(self.folder)
        self._health = SpoolHealth(remote.uri, self.folder)
        self._pending: dict[str, _Pending] = {}  # by key, oldest first
        self._writing: Counter[str] = Counter()  # by key: writes to disk that are under way
        self._in_flight: set[str] = set()  # keys that an uploader delivers
        self._bytes = 0
        self._versions = itertools.count()
        self._uploaders = 0
        self._refusal: StoreError | None = None
        self._closed = False

    # The writer's side.

    def put(self, key: str, stored: Stored, *, sealed: bool) -> int:
        """Stores a window on disk and queues it for delivery; returns its version, for `wait`.

        Raises:
            StoreError: this disk cannot store it.
        """
        with self._changed:
            own, self._refusal = self._folders.own(), None  # the reason for the refusal may have been mended
            self._writing[key] += 1  # its file is not removed meanwhile
        version = None
        try:
            if sealed:
                own.seal_stored(key, stored)
            else:
                own.write_stored_partial(key, stored)
            version = next(self._versions)
        finally:
            with self._changed:
                self._writing -= Counter([key])
                if version is not None:
                    self._enqueue(key, version, sealed=sealed, adopted=False)
                self._changed.notify_all()
        return version

    def wait(self, key: str, version: int) -> None:
        """Waits until a version of a window is delivered; returns at once while the store is degraded.

        Raises:
            StoreError: the store refused it, or its outage has been too long, or too many bytes are pending.
                Everything is kept.
        """
        deadline = time.monotonic() + self._config.patience_seconds
        with self._changed:
            while self._refusal is None and not self._health.degraded and self._is_pending(key, version):
                left = deadline - time.monotonic()
                if left <= 0:
                    limit = self._config.patience_seconds
                    self._health.degrade(f"{self._remote.uri} has not answered for {limit:g} s")
                else:
                    self._changed.wait(left)
            overdue = self._health.outage_seconds() > self._config.seconds
            if self._refusal is not None or overdue or self._bytes > self._config.megabytes * 1e6:
                raise self._stopped()

    def flush(self, seconds: float) -> None:
        """Returns when every window is delivered, of this process and of others of this machine.

        Raises:
            StoreError: windows are left after `seconds`, or the store refuses one. Everything is kept.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.adopt()
            with self._changed:
                self._refusal = None
                self._health.attempt_now()
                self._changed.notify_all()
                while self._pending and self._refusal is None and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                if self._pending:
                    raise self._stopped()
            elsewhere = self._folders.pending_elsewhere()
            if not elsewhere:
                return
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{elsewhere} windows of other processes of this machine wait for {self._remote.uri}; they are "
                    f"kept in {self.folder}, and the same command delivers them"
                )
            time.sleep(_POLL_SECONDS)

    def adopt(self) -> int:
        """Queues the windows that ended processes have left; returns how many."""
        adopted = 0
        for folder in self._folders.others():
            with self._folders.abandoned(folder) as abandoned:
                if not abandoned:
                    continue
                with self._changed:
                    moved = self._folders.move_to_own(folder)
                    for key, sealed in moved.items():
                        self._enqueue(key, next(self._versions), sealed=sealed, adopted=True)
                adopted += len(moved)
        return adopted

    def discard(self, *keys: str) -> None:
        """Removes windows from the queue and from disk."""
        with self._changed:
            for key in keys:
                self._drop(key)

    def close(self) -> None:
        """Stops the uploaders and releases the folder, whose windows the next process adopts."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._folders.release()

    # The reader's side.

    @property
    def outage(self) -> UnreachableError | None:
        """The latest failure, until the next attempt is due; None if the store may be asked."""
        with self._changed:
            return self._health.outage if self._health.seconds_to_attempt() > 0 else None

    @property
    def failing(self) -> bool:
        """Whether the latest request was not answered."""
        return self._health.outage is not None

    def on_failure(self, error: UnreachableError) -> None:
        """Notes that the store did not answer a request."""
        with self._changed:
            self._health.on_failure(error)

    def on_success(self) -> None:
        """Notes that the store answered a request."""
        with self._changed:
            self._health.on_success(pending=bool(self._pending))
            self._changed.notify_all()

    def stores(self) -> Iterator[TokenStore]:
        """Yields what is kept on this machine, as stores, this process's own first."""
        return self._folders.stores()

    # The queue.

    def _enqueue(self, key: str, version: int, *, sealed: bool, adopted: bool) -> None:
        before = self._pending.get(key)
        pending = _Pending(
            sealed=sealed or (before is not None and before.sealed),
            version=version,
            size=self._folders.own().size(key),
            adopted=adopted and before is None,
        )
        if not self._pending:
            self._health.restart_outage()
        self._pending[key] = pending
        self._bytes += pending.size - (before.size if before is not None else 0)
        if self._uploaders < min(len(self._pending), _UPLOADERS):
            self._uploaders += 1
            threading.Thread(target=self._upload, name=f"uploader {self._uploaders}", daemon=True).start()
        self._changed.notify_all()

    def _is_pending(self, key: str, version: int) -> bool:
        return key in self._pending and self._pending[key].version == version

    def _drop(self, key: str) -> None:
        pending = self._pending.pop(key, None)
        if pending is not None:
            self._bytes -= pending.size
            self._folders.own().remove(key)

    def _stopped(self) -> StoreError:
        reason = self._refusal or self._health.outage or "it is too slow"
        return StoreError(
            f"{len(self._pending)} windows ({format_bytes(self._bytes)}) wait for {self._remote.uri}: {reason}. "
            f"Everything is kept in {self.folder}, and the same command delivers it and goes on"
        )

    # The uploaders.

    def _upload(self) -> None:
        while (found := self._next()) is not None:
            key, pending = found
            error: StoreError | None = None
            try:
                self._deliver(key, pending)
            except StoreError as raised:
                error = raised
            except Exception as raised:  # a defect here must not look like a slow store
                error = StoreError(f"window {key[:12]} cannot be delivered ({type(raised).__name__}: {raised})")
            self._on_delivered(key, pending, error)

    def _next(self) -> tuple[str, _Pending] | None:
        """Returns a pending window, once there is one and the store may be asked; None when the spool is closed."""
        with self._changed:
            while not self._closed:
                pause = None
                # During an outage, one request at a time is enough to see its end.
                if self._refusal is None and (self._health.outage is None or not self._in_flight):
                    pause = self._health.seconds_to_attempt()
                    busy = self._in_flight | self._writing.keys()
                    key = next((key for key in self._pending if key not in busy), None)
                    if pause <= 0 and key is not None:
                        self._in_flight.add(key)
                        return key, self._pending[key]
                self._changed.wait(pause if pause is not None and pause > 0 else None)
            return None

    def _deliver(self, key: str, pending: _Pending) -> None:
        own = self._folders.own()
        if pending.sealed:
            stored = _find(own, key)
            if stored is not None:
                self._remote.seal_stored(key, stored)
            return
        stored = own.read_partial(key)
        if stored is None or (pending.adopted and self._is_outdated(key, stored)):
            return
        self._remote.write_stored_partial(key, stored)

    def _is_outdated(self, key: str, adopted: Stored) -> bool:
        """Whether the store has a window sealed, or a partial that is as far as an adopted one.

        Of two prefixes the longer one is further. States are opaque: the one stored later is taken to be further.
        """
        if self._remote.sealed(key):
            return True
        theirs = self._remote.read_partial(key)
        if theirs is None:
            return False
        if adopted.state is None and theirs.state is None:
            return theirs.tokens.size >= adopted.tokens.size
        age, their_age = self._folders.own().partial_age(key), self._remote.partial_age(key)
        return age is None or (their_age is not None and their_age <= age)

    def _on_delivered(self, key: str, pending: _Pending, error: StoreError | None) -> None:
        with self._changed:
            self._in_flight.discard(key)
            if error is None:
                if self._is_pending(key, pending.version) and not self._writing[key]:
                    self._drop(key)
                self.on_success()
            elif isinstance(error, UnreachableError):
                self.on_failure(error)
            else:
                self._refusal = error
                _log.error("%s", self._stopped())
            self._changed.notify_all()


def _find(store: TokenStore, key: str) -> Stored | None:
    """Returns a sealed window; None if it is not sealed, or is damaged, in which case it is set aside."""
    try:
        return store.find(key)
    except DamagedError as error:
        _log.warning("%s", error)
        return None
