"""A spool: windows on local disk that wait for a remote store, delivered by threads of their own. Imports no torch.

Every process that writes has a folder of its own, and holds a lock on it for as long as it lives:

    <folder>/<digits of the address>/<process>/windows/...   as in a token store
    <folder>/<digits of the address>/<process>/owner         the lock

What is written goes to the disk first and to the store at once; where the store answers, the writer waits for it. A
folder whose lock is free was left by a process that is gone: the next one takes over what is in it.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import shutil
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest
from jukebox_core.base.locks import FileLock
from jukebox_core.errors import DamagedError, StoreError, UnreachableError
from jukebox_core.store.retrying import try_lock
from jukebox_core.store.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike

    from jukebox_core.store.config import SpoolConfig
    from jukebox_core.store.store import Stored

_log = logging.getLogger("jukebox.store")
_COURIERS = 8  # windows that are delivered side by side
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0  # seconds between two attempts while the store is away
_LOOK_SECONDS = 0.1  # between two looks at other processes' folders
_OWNER = "owner"


def spool_folder(uri: str, folder: str | None = None) -> Path:
    """Returns the folder of the spools for the store at `uri`, below `folder` or the place for all of them."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    chosen = folder or os.environ.get("JUKEBOX_SPOOL") or f"{cache}/jukebox/spool"
    return Path(chosen).expanduser().absolute() / digest(uri)[:16]


@dataclass(frozen=True, slots=True)
class _Parcel:
    """One window that waits to be delivered."""

    sealed: bool
    version: int  # counts what was put
    size: int
    adopted: bool  # left by another process: the store may know more by now


class Spool:
    """The windows that this process has yet to deliver to one store, and what others on this machine have.

    Args:
        remote: the store; its requests should fail fast, since they are repeated here.
        config: where, and for how long.
    """

    def __init__(self, remote: TokenStore, config: SpoolConfig) -> None:
        self.folder = spool_folder(remote.uri, config.folder)
        self._remote, self._config = remote, config
        self._changed = threading.Condition()
        self._lock: FileLock | None = None
        self._own: TokenStore | None = None
        self._parcels: dict[str, _Parcel] = {}  # by key, oldest first
        self._writing: Counter[str] = Counter()  # by key: writes that go on
        self._travelling: set[str] = set()  # keys
        self._bytes = 0
        self._versions = itertools.count()
        self._couriers = 0
        self._behind = False  # the store is slow or away: nobody waits for it
        self._away: tuple[float, UnreachableError] | None = None  # since when, and why
        self._next_attempt, self._pause = 0.0, _FIRST_PAUSE
        self._refusal: StoreError | None = None
        self._closed = False

    # What a writer does.

    def put(self, key: str, tokens: ArrayLike, *, first: int, causes: Mapping[str, Any], sealed: bool) -> int:
        """Keeps a window on disk and has it delivered; returns a number for `wait`.

        Raises:
            StoreError: this disk cannot keep it.
        """
        with self._changed:
            own, self._refusal = self._folder(), None  # what was refused may have been put right
            self._writing[key] += 1  # its file is not removed meanwhile
        version = None
        try:
            if sealed:
                own.seal(key, tokens, first=first, causes=causes)
            else:
                own.write_partial(key, tokens, first=first, causes=causes)
            version = next(self._versions)
        finally:
            with self._changed:
                self._writing -= Counter([key])
                if version is not None:
                    self._enqueue(key, version, sealed=sealed, adopted=False)
                self._changed.notify_all()
        return version

    def wait(self, key: str, version: int) -> None:
        """Waits until a window is delivered; not if the store is slow or away.

        Raises:
            StoreError: the store refused it, or has been away for too long, or too much waits for it. Everything
                is kept.
        """
        deadline = time.monotonic() + self._config.patience_seconds
        with self._changed:
            while self._refusal is None and not self._behind and self._waits(key, version):
                left = deadline - time.monotonic()
                if left <= 0:
                    self._fall_behind(f"{self._remote.uri} has not answered for {self._config.patience_seconds:g} s")
                else:
                    self._changed.wait(left)
            away = time.monotonic() - self._away[0] if self._away is not None else 0.0
            if self._refusal is not None or away > self._config.seconds or self._bytes > self._config.megabytes * 1e6:
                raise self._stopped()

    def settle(self, seconds: float) -> None:
        """Returns when nothing waits any more, here or in other processes of this machine.

        Raises:
            StoreError: something still does after `seconds`, or the store refuses it. Everything is kept.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.adopt()
            with self._changed:
                self._refusal, self._next_attempt, self._pause = None, 0.0, _FIRST_PAUSE
                self._changed.notify_all()
                while self._parcels and self._refusal is None and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                if self._parcels:
                    raise self._stopped()
            elsewhere = sum(len(windows) for folder in self._others() for windows in _content(folder))
            if not elsewhere:
                return
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{elsewhere} windows of other processes of this machine wait for {self._remote.uri}; they are "
                    f"kept in {self.folder}, and the same command delivers them"
                )
            time.sleep(_LOOK_SECONDS)

    def adopt(self) -> int:
        """Takes over what processes that are gone have left; returns how many windows that were."""
        adopted = 0
        for folder in self._others():
            lock = FileLock(folder / _OWNER)
            if folder.is_dir() and try_lock(lock):
                try:
                    adopted += self._move_in(folder)
                finally:
                    lock.release()
        return adopted

    def forget(self, *keys: str) -> None:
        """Drops what waits of these windows."""
        with self._changed:
            for key in keys:
                self._drop(key)

    def close(self) -> None:
        """Lets go of the folder, as the end of the process does; what waits there stays for the next one."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if self._lock is not None:
                self._lock.release()

    # What a reader asks.

    @property
    def away(self) -> UnreachableError | None:
        """Why the store does not answer, from one failed attempt to the next; None if it does, as far as is known."""
        with self._changed:
            return self._away[1] if self._away is not None and time.monotonic() < self._next_attempt else None

    @property
    def troubled(self) -> bool:
        """Whether the store did not answer when it was asked last."""
        return self._away is not None

    def missed(self, error: UnreachableError) -> None:
        """Takes note that the store did not answer."""
        with self._changed:
            now = time.monotonic()
            self._away = (now if self._away is None else self._away[0], error)
            self._fall_behind(str(error).rpartition("; ")[0])  # without its advice
            if now >= self._next_attempt:
                self._next_attempt, self._pause = now + self._pause, min(2 * self._pause, _LONGEST_PAUSE)

    def heard(self) -> None:
        """Takes note that the store answered."""
        with self._changed:
            self._away, self._next_attempt, self._pause = None, 0.0, _FIRST_PAUSE
            if self._behind and not self._parcels:
                self._behind = False
                _log.info("%s answers again; nothing waits for it any more", self._remote.uri)
            self._changed.notify_all()

    def stores(self) -> Iterator[TokenStore]:
        """Gives what waits on this machine, as stores: this process's first."""
        if self._own is not None:
            yield self._own
        for folder in self._others():
            yield TokenStore(folder)

    # Inside.

    def _folder(self) -> TokenStore:
        while self._own is None:
            lock = FileLock(self.folder / f"{os.getpid()}-{secrets.token_hex(4)}" / _OWNER)
            if try_lock(lock):  # else an adopting process came between the making and the taking
                self._lock, self._own = lock, TokenStore(lock.path.parent)
        return self._own

    def _others(self) -> list[Path]:
        own = self._lock.path.parent if self._lock is not None else None
        try:
            return sorted(path for path in self.folder.iterdir() if path != own and path.is_dir())
        except FileNotFoundError:
            return []

    def _enqueue(self, key: str, version: int, *, sealed: bool, adopted: bool) -> None:
        before = self._parcels.get(key)
        parcel = _Parcel(
            sealed=sealed or (before is not None and before.sealed),
            version=version,
            size=self._folder().size(key),
            adopted=adopted and before is None,
        )
        if self._away is not None and not self._parcels:
            self._away = (time.monotonic(), self._away[1])  # nothing has waited until now
        self._parcels[key] = parcel
        self._bytes += parcel.size - (before.size if before is not None else 0)
        if self._couriers < min(len(self._parcels), _COURIERS):
            self._couriers += 1
            threading.Thread(target=self._carry, name=f"courier {self._couriers}", daemon=True).start()
        self._changed.notify_all()

    def _move_in(self, folder: Path) -> int:
        """Moves the windows of a folder whose lock is held into this process's own, and removes the folder."""
        sealed, partial = _content(folder)
        with self._changed:
            own = Path(self._folder().uri)
            for key in {**sealed, **partial}:
                for path in folder.glob(f"windows/{key[:2]}/{key}.*"):
                    target = own / path.relative_to(folder)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if not target.exists():  # what this process has itself is newer
                        path.rename(target)
                self._enqueue(key, next(self._versions), sealed=key in sealed, adopted=True)
        shutil.rmtree(folder)
        return len({**sealed, **partial})

    def _waits(self, key: str, version: int) -> bool:
        return key in self._parcels and self._parcels[key].version == version

    def _fall_behind(self, why: str) -> None:
        if not self._behind:
            self._behind = True
            _log.warning("%s; sampling goes on, and tokens are kept in %s until it answers", why, self.folder)

    def _stopped(self) -> StoreError:
        why = self._refusal or (self._away[1] if self._away is not None else "it is too slow")
        return StoreError(
            f"{len(self._parcels)} windows ({self._bytes / 1e6:.1f} MB) wait for {self._remote.uri}: {why}. Everything "
            f"is kept in {self.folder}, and the same command delivers it and goes on"
        )

    # What the couriers do.

    def _carry(self) -> None:
        while (found := self._take()) is not None:
            key, parcel = found
            error: StoreError | None = None
            try:
                self._deliver(key, parcel)
            except StoreError as raised:
                error = raised
            except Exception as raised:  # a defect here must not look like a slow store
                error = StoreError(f"window {key[:12]} cannot be delivered ({type(raised).__name__}: {raised})")
            self._arrived(key, parcel, error)

    def _take(self) -> tuple[str, _Parcel] | None:
        """Returns a window that waits, once there is one and the store may answer; None when the spool is closed."""
        with self._changed:
            while not self._closed:
                pause = None
                # While the store is away, one asks for all.
                if self._refusal is None and (self._away is None or not self._travelling):
                    pause = self._next_attempt - time.monotonic()
                    busy = self._travelling | self._writing.keys()
                    key = next((key for key in self._parcels if key not in busy), None)
                    if pause <= 0 and key is not None:
                        self._travelling.add(key)
                        return key, self._parcels[key]
                self._changed.wait(pause if pause is not None and pause > 0 else None)
            return None

    def _deliver(self, key: str, parcel: _Parcel) -> None:
        own = self._folder()
        if parcel.sealed:
            stored = _found(own, key)
            if stored is not None:
                self._remote.seal(key, stored.tokens, first=stored.first, causes=stored.causes)
            return
        stored = own.read_partial(key)
        if stored is None or (parcel.adopted and self._knows_more(key, stored)):
            return
        self._remote.write_partial(key, stored.tokens, first=stored.first, causes=stored.causes)

    def _knows_more(self, key: str, stored: Stored) -> bool:
        if self._remote.sealed(key):
            return True
        there = self._remote.read_partial(key)
        return there is not None and len(there.tokens) >= len(stored.tokens)

    def _arrived(self, key: str, parcel: _Parcel, error: StoreError | None) -> None:
        with self._changed:
            self._travelling.discard(key)
            if error is None:
                now = self._parcels.get(key)
                if now is not None and now.version == parcel.version and not self._writing[key]:
                    self._drop(key)
                self.heard()
            elif isinstance(error, UnreachableError):
                self.missed(error)
            else:
                self._refusal = error
                _log.error("%s", self._stopped())
            self._changed.notify_all()

    def _drop(self, key: str) -> None:
        parcel = self._parcels.pop(key, None)
        if parcel is not None:
            self._bytes -= parcel.size
            self._folder().remove(key)


def _content(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    return TokenStore(folder).sizes()


def _found(store: TokenStore, key: str) -> Stored | None:
    """Returns a sealed window; None if there is none, or a damaged one, which is set aside."""
    try:
        return store.find(key)
    except DamagedError as error:
        _log.warning("%s", error)
        return None
