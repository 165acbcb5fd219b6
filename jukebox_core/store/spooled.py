"""A remote token store, and a spool that lets a run go on through its outages. Imports no torch."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from jukebox_core.errors import DamagedError, StoreError, UnreachableError
from jukebox_core.store.config import RetryConfig, SpoolConfig
from jukebox_core.store.spool import Spool
from jukebox_core.store.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jukebox_core.store.format import Stored

_log = logging.getLogger("jukebox.store")
_T = TypeVar("_T")
_ONCE = RetryConfig(attempts=1)
_RECENT_BYTES = 2**27  # of tokens: every window that a song of an hour reads again

_opening = threading.Lock()
_spools: dict[tuple[object, ...], tuple[Spool, Recent]] = {}  # of this process
_configs: dict[tuple[object, ...], SpoolConfig] = {}  # of this process: what each store was opened with last


def open_store(
    uri: str | os.PathLike[str],
    *,
    options: Mapping[str, Any] | None = None,
    retry: RetryConfig | None = None,
    spool: SpoolConfig | None = None,
) -> TokenStore:
    """Returns the token store at `uri`; a remote one has a spool, so that a run can go on through its outages.

    Args:
        uri: a local path, or an fsspec address such as ``s3://bucket/folder``.
        options: settings of the fsspec file system.
        retry: how often a request is repeated after a transient failure.
        spool: where windows are kept during an outage; None: as when this process opened the store before, else the
            defaults of `SpoolConfig`.

    Raises:
        StoreError: the address has an unknown scheme, or one whose package is not installed.
    """
    address = str(uri)
    if "://" not in address or address.partition("://")[0] in ("file", "local", "memory"):
        return TokenStore(address, options=options, retry=retry)
    return SpooledStore(address, options=options, retry=retry, spool=spool)


class SpooledStore(TokenStore):
    """A remote store with a spool on this machine.

    A window is written to this machine's disk first and delivered at once by other threads; a write waits for the
    delivery while the store is healthy, and does not while it is slow or in an outage. A pending window counts as
    stored on this machine, and on no other. If an outage lasts too long, or too many bytes are pending, writes raise
    StoreError with everything kept; the next process that opens the store on this machine delivers it.

    During an outage, reads are answered from pending windows and from those that this process read or sealed recently.
    """

    def __init__(
        self,
        uri: str,
        *,
        options: Mapping[str, Any] | None = None,
        retry: RetryConfig | None = None,
        spool: SpoolConfig | None = None,
    ) -> None:
        super().__init__(uri, options=options, retry=retry)
        self._failing_fast = TokenStore(uri, options=options, retry=_ONCE)
        address = (os.getpid(), self.uri, repr(options))
        with _opening:
            config = _configs[address] = spool or _configs.get(address) or SpoolConfig()
            key = (*address, config)
            if key not in _spools:
                _spools[key] = Spool(self._failing_fast, config), Recent(_RECENT_BYTES)
            self._spool, self._recent = _spools[key]

    def probe(self) -> None:
        """Checks the store as `TokenStore.probe` does, and delivers the windows that ended processes have left here.

        Raises:
            StoreError: As `TokenStore.probe`; or a window cannot be delivered.
        """
        super().probe()
        left = self._spool.adopt()
        if left:
            _log.info("delivering %d windows that an earlier process kept for %s", left, self.uri)
        self._spool.flush(60.0)

    def flush(self, seconds: float = 60.0) -> None:
        """Returns when every window written on this machine is in the store: at the end of a run.

        Raises:
            StoreError: windows are pending after `seconds`; they are kept, and the same command delivers them.
        """
        self._spool.flush(seconds)

    def sealed(self, key: str) -> bool:
        """Whether the window is sealed, in the store or on this machine; in an outage, as far as this machine knows."""
        if any(store.sealed(key) for store in self._spool.stores()):
            return True
        try:
            return self._ask(lambda store: TokenStore.sealed(store, key))
        except UnreachableError:
            return self._recent.get(key) is not None

    def keys(self) -> list[str]:
        """Returns the keys of all sealed windows, in the store and on this machine, sorted."""
        here = [TokenStore.keys(store) for store in self._spool.stores()]
        return sorted({*self._ask(TokenStore.keys)}.union(*here))

    def find(self, key: str) -> Stored | None:
        """Returns a sealed window, checked, from this machine or from the store; None if it is not sealed."""
        damage = None
        for store in self._spool.stores():
            try:
                found = store.find(key)
            except DamagedError as error:
                damage = error
                continue
            if found is not None:
                return found
        try:
            found = self._ask(lambda store: TokenStore.find(store, key))
        except UnreachableError:
            found = self._recent.get(key)
            if found is None:
                raise
        if found is not None:
            self._recent.put(key, found)
        elif damage is not None:
            raise damage
        return found

    def read_partial(self, key: str) -> Stored | None:
        """Returns the partial of a window, checked; in an outage the one on this machine; None if it has none."""
        for store in self._spool.stores():
            found = store.read_partial(key)
            if found is not None:
                return found
        try:
            return self._ask(lambda store: TokenStore.read_partial(store, key))
        except UnreachableError:
            return None

    def write_stored_partial(self, key: str, partial: Stored) -> None:
        """Stores a partial; see the class for an outage.

        Raises:
            StoreError: the outage has been too long, or this disk is full as well. Everything stored is kept.
        """
        self._write(key, partial, sealed=False)

    def seal_stored(self, key: str, sealed: Stored) -> None:
        """Stores a finished window for good; see `write_stored_partial`. Idempotent."""
        self._write(key, sealed, sealed=True)

    def remove(self, *keys: str) -> None:
        """Removes everything stored of these windows, and those pending in this process."""
        self._spool.discard(*keys)
        self._recent.discard(*keys)
        super().remove(*keys)

    def _write(self, key: str, stored: Stored, *, sealed: bool) -> None:
        try:
            version = self._spool.put(key, stored, sealed=sealed)
        except StoreError as error:  # no space here, say: the store itself may still have some
            if self._spool.failing:
                raise
            _log.warning("%s; tokens go to %s directly", error, self.uri)
            self._spool.discard(key)
            write = super().seal_stored if sealed else super().write_stored_partial
            write(key, stored)
            return
        if sealed:
            self._recent.put(key, stored)
        self._spool.wait(key, version)

    def _ask(self, question: Callable[[TokenStore], _T]) -> _T:
        """Returns the store's answer to a question: with retries while it is healthy; in an outage one attempt, if due.

        Raises:
            UnreachableError: it is in an outage.
        """
        outage = self._spool.outage
        if outage is not None:
            raise outage
        try:
            answer = question(self._failing_fast if self._spool.failing else self)
        except UnreachableError as error:
            self._spool.on_failure(error)
            raise
        if self._spool.failing:
            self._spool.on_success()
        return answer


class Recent:
    """A cache of sealed windows, which are immutable; the least recently used is evicted first. `limit` is in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._windows: OrderedDict[str, Stored] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Stored | None:
        """Returns a window, with a copy of its tokens; None if it is not cached."""
        with self._lock:
            found = self._windows.get(key)
            if found is None:
                return None
            self._windows.move_to_end(key)
            return replace(found, tokens=found.tokens.copy())

    def put(self, key: str, stored: Stored) -> None:
        """Caches a window."""
        with self._lock:
            self._drop(key)
            self._windows[key] = replace(stored, tokens=stored.tokens.copy())
            self._bytes += stored.tokens.nbytes
            while self._bytes > self._limit:
                self._drop(next(iter(self._windows)))

    def discard(self, *keys: str) -> None:
        """Evicts windows."""
        with self._lock:
            for key in keys:
                self._drop(key)

    def _drop(self, key: str) -> None:
        found = self._windows.pop(key, None)
        if found is not None:
            self._bytes -= found.tokens.nbytes
