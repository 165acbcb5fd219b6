"""A token store on other machines that may go away while a run goes on. Imports no torch."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from jukebox_core.base.hashing import digest_bytes
from jukebox_core.errors import DamagedError, StoreError, UnreachableError
from jukebox_core.store.config import RetryConfig, SpoolConfig
from jukebox_core.store.spool import Spool
from jukebox_core.store.store import Stored, TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike

_log = logging.getLogger("jukebox.store")
_T = TypeVar("_T")
_ONCE = RetryConfig(attempts=1)
_RECENT_BYTES = 2**27  # of tokens: every window that a song of an hour reads again

_opening = threading.Lock()
_spools: dict[tuple[object, ...], tuple[Spool, Recent]] = {}  # of this process
_told: dict[tuple[object, ...], SpoolConfig] = {}  # of this process: what each store was opened with last


def open_store(
    uri: str | os.PathLike[str],
    *,
    options: Mapping[str, Any] | None = None,
    retry: RetryConfig | None = None,
    spool: SpoolConfig | None = None,
) -> TokenStore:
    """Returns the token store at `uri`; one on other machines with a spool, so that a run can go on while it is away.

    Args:
        uri: a local path, or an fsspec address such as ``s3://bucket/folder``.
        options: settings of the fsspec file system.
        retry: how often a request is made again that failed for a passing reason.
        spool: where windows wait for a store that is away; None: as this process was told when it opened the store
            before, else as `SpoolConfig` says.

    Raises:
        StoreError: the address has an unknown scheme, or one whose package is not installed.
    """
    address = str(uri)
    if "://" not in address or address.partition("://")[0] in ("file", "local", "memory"):
        return TokenStore(address, options=options, retry=retry)
    return SpooledStore(address, options=options, retry=retry, spool=spool)


class SpooledStore(TokenStore):
    """A remote store with a spool on this machine.

    Windows are kept on this machine's disk first and delivered at once by other threads; a write waits for that while
    the store keeps up, and goes on without it when the store is slow or away. A window that waits counts as stored for
    this machine, and for no other. When the store has been away for too long, or too much waits, writes raise
    StoreError with everything kept; the next process that opens the store on this machine delivers what is left.

    While the store is away, questions are answered from what waits and from what this process read or sealed lately.
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
        self._hasty = TokenStore(uri, options=options, retry=_ONCE)
        place = (os.getpid(), self.uri, repr(options))
        with _opening:
            config = _told[place] = spool or _told.get(place) or SpoolConfig()
            key = (*place, config)
            if key not in _spools:
                _spools[key] = Spool(self._hasty, config), Recent(_RECENT_BYTES)
            self._spool, self._recent = _spools[key]

    def probe(self) -> None:
        """Checks the store as `TokenStore.probe` does, and delivers what earlier processes have left on this machine.

        Raises:
            StoreError: As `TokenStore.probe`; or something that is left cannot be delivered.
        """
        super().probe()
        left = self._spool.adopt()
        if left:
            _log.info("delivering %d windows that an earlier process kept for %s", left, self.uri)
        self._spool.settle(60.0)

    def settle(self, seconds: float = 60.0) -> None:
        """Returns when all that was written on this machine is in the store: at the end of a run.

        Raises:
            StoreError: something still waits after `seconds`; it is kept, and the same command delivers it.
        """
        self._spool.settle(seconds)

    def sealed(self, key: str) -> bool:
        """Whether the window is finished, in the store or on this machine; while the store is away, as far as known."""
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
        """Returns what is stored of an unfinished window; while the store is away, what this machine has of it."""
        for store in self._spool.stores():
            found = store.read_partial(key)
            if found is not None:
                return found
        try:
            return self._ask(lambda store: TokenStore.read_partial(store, key))
        except UnreachableError:
            return None

    def write_partial(self, key: str, tokens: ArrayLike, *, first: int, causes: Mapping[str, Any]) -> None:
        """Stores the tokens drawn so far; see the class for when the store does not answer.

        Raises:
            StoreError: the store has been away for too long, or this disk is full as well. Tokens stay where they are.
        """
        self._carry_out(lambda: self._write(key, tokens, first, causes, sealed=False))

    def seal(self, key: str, tokens: ArrayLike, *, first: int, causes: Mapping[str, Any]) -> None:
        """Stores a finished window for good; see `write_partial` for when the store does not answer."""
        self._carry_out(lambda: self._write(key, tokens, first, causes, sealed=True))

    def remove(self, *keys: str) -> None:
        """Removes all that is stored of these windows, and what waits of them in this process."""
        self._spool.forget(*keys)
        self._recent.forget(*keys)
        super().remove(*keys)

    def _write(self, key: str, tokens: ArrayLike, first: int, causes: Mapping[str, Any], *, sealed: bool) -> None:
        try:
            version = self._spool.put(key, tokens, first=first, causes=causes, sealed=sealed)
        except StoreError as error:  # no space here, say: the store itself may still have some
            if self._spool.troubled:
                raise
            _log.warning("%s; tokens go to %s directly", error, self.uri)
            self._spool.forget(key)
            (self._create_sealed if sealed else self._replace_partial)(key, tokens, first, causes)
            return
        if sealed:
            array = np.asarray(tokens, "<i4")
            self._recent.put(key, Stored(array, first, dict(causes), digest_bytes(array.tobytes())))
        self._spool.wait(key, version)

    def _ask(self, question: Callable[[TokenStore], _T]) -> _T:
        """Asks the store, patiently while it keeps up; not at all between two attempts while it is away.

        Raises:
            UnreachableError: it is away.
        """
        away = self._spool.away
        if away is not None:
            raise away
        try:
            answer = question(self._hasty if self._spool.troubled else self)
        except UnreachableError as error:
            self._spool.missed(error)
            raise
        if self._spool.troubled:
            self._spool.heard()
        return answer


class Recent:
    """Windows that were read or sealed lately, the least lately used dropped first; sealed windows never change."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._windows: OrderedDict[str, Stored] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Stored | None:
        """Returns the window, with tokens of its own; None if it is not here."""
        with self._lock:
            found = self._windows.get(key)
            if found is None:
                return None
            self._windows.move_to_end(key)
            return replace(found, tokens=found.tokens.copy())

    def put(self, key: str, stored: Stored) -> None:
        """Keeps a window."""
        with self._lock:
            self._drop(key)
            self._windows[key] = replace(stored, tokens=stored.tokens.copy())
            self._bytes += stored.tokens.nbytes
            while self._bytes > self._limit:
                self._drop(next(iter(self._windows)))

    def forget(self, *keys: str) -> None:
        """Drops windows."""
        with self._lock:
            for key in keys:
                self._drop(key)

    def _drop(self, key: str) -> None:
        found = self._windows.pop(key, None)
        if found is not None:
            self._bytes -= found.tokens.nbytes
