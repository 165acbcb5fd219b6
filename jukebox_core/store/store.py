"""The token store: what was sampled of a window, under the window's key, sealed once and atomically. Imports no torch.

One object a window, in safetensors format (see `store.format`), under the root:

    windows/<key[:2]>/<key>.safetensors       sealed: all tokens of a finished window
    windows/<key[:2]>/<key>.part.safetensors  partial: the tokens sampled so far, an opaque state, or both; replaced
                                              by each write
    damaged/<file name>.<digits>              what failed its check when it was read
    runs/<digits>.json                        which windows a run needs (`store.pins`)
    tmp/                                      what is being written, and probes
    store.json                                the schema of the whole, written by the first probe

A partial is a resumable state of one of two kinds. An autoregressive model needs no more than the prefix of tokens that
it has sampled. Any other sampler, such as one that refines a grid [codebooks, time] in passes, stores a state of its
own as bytes, which are opaque to the store.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from jukebox_core.base.hashing import digest_bytes
from jukebox_core.base.records import parse_record
from jukebox_core.errors import DamagedError, NewerRecordError, RecordError, StoreError
from jukebox_core.store.format import FormatError, Stored, decode, encode, to_stored
from jukebox_core.store.local import LocalObjects
from jukebox_core.store.objects import open_objects

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from numpy.typing import ArrayLike

    from jukebox_core.store.config import RetryConfig

LAYOUT = 1  # of the store: which objects there are, and their names
PROBE_BYTES = 2**16  # more than the object of a window of 8192 tokens

_log = logging.getLogger("jukebox.store")
_KEY = re.compile(r"[0-9a-f]{64}")
_SEALED = re.compile(rf"windows/[0-9a-f]{{2}}/({_KEY.pattern})\.safetensors")
_PARTIAL = re.compile(rf"windows/[0-9a-f]{{2}}/({_KEY.pattern})\.part\.safetensors")
_MARK = "store.json"
_PARALLEL_WRITES = 8  # disks and servers take several in the time of one
_FEW = 32  # windows that are looked up one by one; more are looked up in a listing


@dataclass(frozen=True, slots=True)
class _Layout:
    """The content of the object `_MARK`."""

    extensible: ClassVar[bool] = True
    schema: int


class TokenStore:
    """The stored windows under one path or address, on local disk or object storage.

    Any number of processes may read and write one store at a time: writes are atomic, and a sealed window is
    immutable. The path or address is not checked here but by `probe`.

    Args:
        uri: A local path, or an fsspec address such as ``s3://bucket/folder``.
        options: Settings of the fsspec file system, such as ``client_kwargs``.
        retry: How often a request is repeated after a transient failure.

    Attributes:
        uri: The address; of a local store its absolute path.

    Raises:
        StoreError: The address has an unknown scheme, or one whose package is not installed. Every method raises it
            where the place itself fails: full, access refused, or unreachable (UnreachableError).
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        *,
        options: Mapping[str, Any] | None = None,
        retry: RetryConfig | None = None,
    ) -> None:
        self._objects = open_objects(str(uri), options, retry)
        self.uri = self._objects.uri
        self._local = threading.local()  # of each thread: `submit`, within a block of parallel writes

    def probe(self) -> None:
        """Stores, reads and removes an object of a window's size, so that an unusable store fails a run at its start.

        Raises:
            StoreError: The store cannot be written, does not return the bytes written to it, or was laid out by a newer
                version of this program.
        """
        name, data = f"tmp/probe-{secrets.token_hex(8)}", secrets.token_bytes(PROBE_BYTES)
        self._objects.create(name, data)
        try:
            if self._objects.read(name) != data:
                raise StoreError(f"{self.uri} did not give back what was written to it; choose another place")
        finally:
            self._objects.remove(name)
        self._check_layout()
        if isinstance(self._objects, LocalObjects):
            self._objects.remove_stale()

    def _check_layout(self) -> None:
        mark = self._objects.read(_MARK)
        if mark is None:
            self._objects.create(_MARK, json.dumps({"schema": LAYOUT}).encode("ascii"))
            return
        try:
            parse_record(mark, _Layout, f"{self.uri}/{_MARK}", LAYOUT)
        except NewerRecordError as error:
            raise StoreError(f"{error}, or use another store") from None
        except RecordError as error:
            if not self._objects.sizes("windows"):
                raise StoreError(f"{self.uri} is not a token store ({error}); choose another place") from None
            _log.warning("%s; it was moved to %s, and made again", error, self._set_aside(_MARK, mark))
            self._objects.create(_MARK, json.dumps({"schema": LAYOUT}).encode("ascii"))

    def flush(self, seconds: float = 60.0) -> None:
        """Returns when every write is in the store; here, a write is when it returns. `seconds` bounds the wait."""

    @contextlib.contextmanager
    def parallel_writes(self) -> Iterator[None]:
        """Gives a block in which the writes of this thread are executed in parallel; all are stored when it ends.

        Raises:
            StoreError: One of them failed.
        """
        writes: list[Future[None]] = []
        with ThreadPoolExecutor(_PARALLEL_WRITES, "store") as pool:
            self._local.submit = lambda write: writes.append(pool.submit(write))
            try:
                yield
            finally:
                del self._local.submit
        for write in writes:
            write.result()

    def _execute(self, write: Callable[[], None]) -> None:
        """Executes a write, or submits it within a block of parallel writes."""
        getattr(self._local, "submit", _call)(write)

    def sealed(self, key: str) -> bool:
        """Whether the window is sealed. Its content is checked by `read`, not here."""
        return self._objects.exists(_sealed_name(key))

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Returns those of `keys` that are not sealed, from one listing if they are many."""
        wanted = set(keys)
        if len(wanted) > _FEW:
            return wanted.difference(self.keys())
        return {key for key in wanted if not self.sealed(key)}

    def keys(self) -> list[str]:
        """Returns the keys of all sealed windows, sorted."""
        return sorted(self.sizes()[0])

    def partials(self) -> list[str]:
        """Returns the keys of all windows that have a partial and are not sealed, sorted."""
        sealed, partial = self.sizes()
        return sorted(partial.keys() - sealed)  # a run that is killed as it seals a window leaves the partial

    def sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        """Returns the bytes of each sealed window, and of each partial, by key, from one listing of the store."""
        listing = self._objects.sizes("windows").items()
        sealed = {match[1]: size for name, size in listing if (match := _SEALED.fullmatch(name))}
        partial = {match[1]: size for name, size in listing if (match := _PARTIAL.fullmatch(name))}
        return sealed, partial

    def size(self, key: str) -> int:
        """Returns the bytes stored of a window, sealed and partial; 0 if nothing is stored."""
        return sum(self._objects.size(name) or 0 for name in (_sealed_name(key), _partial_name(key)))

    def partial_age(self, key: str) -> float | None:
        """Returns the seconds since the window's partial was stored, by the store's clock; None if it has none."""
        return self._objects.age(_partial_name(key))

    def remove(self, *keys: str) -> None:
        """Removes everything stored of these windows, sealed and partial."""
        names = [name for key in keys for name in (_sealed_name(key), _partial_name(key))]
        if len(keys) > _FEW:
            existing = self._objects.sizes("windows")
            names = [name for name in names if name in existing]
        if names:
            self._objects.remove(*names)

    def read(self, key: str) -> Stored:
        """Returns a sealed window, checked.

        Raises:
            DamagedError: The object is damaged. It was set aside, and the window is unsealed again.
            StoreError: The window is not sealed, or was stored by a newer version of this program.
        """
        found = self.find(key)
        if found is None:
            raise StoreError(f"window {key[:12]} is not in {self.uri}; run the command again to sample it")
        return found

    def find(self, key: str) -> Stored | None:
        """Returns a sealed window, checked; None if it is not sealed.

        Raises:
            DamagedError: As `read`.
            StoreError: The window was stored by a newer version of this program.
        """
        return self._read(_sealed_name(key), key)

    def read_partial(self, key: str) -> Stored | None:
        """Returns the partial of a window, checked; None if it has none.

        A damaged partial is set aside with a warning, and counts as none.

        Raises:
            StoreError: The object was stored by a newer version of this program.
        """
        try:
            return self._read(_partial_name(key), key)
        except DamagedError as error:
            _log.warning("%s", error)
            return None

    def write_partial(
        self, key: str, tokens: ArrayLike | None, *, first: int, causes: Mapping[str, Any], state: bytes | None = None
    ) -> None:
        """Stores the partial of an unfinished window, in the place of the one stored before.

        Args:
            key: The window's key.
            tokens: The raw tokens sampled so far: whole numbers [time] that fit in int32, or an array of int32, int64,
                uint8 or float32 of another shape, such as a grid [codebooks, time]; None if the state is all.
            first: Absolute position of the first of them in its level.
            causes: All that the key hashes.
            state: From what the sampler resumes, as bytes that the store does not interpret; None if the tokens are
                all that it needs.

        Raises:
            ValueError: The tokens are of another shape, dtype or range, or tokens and state are both None.
            TypeError: The causes hold what canonical JSON cannot.
        """
        self._execute(lambda: self.write_stored_partial(key, to_stored(tokens, first, causes, state)))

    def seal(self, key: str, tokens: ArrayLike, *, first: int, causes: Mapping[str, Any]) -> None:
        """Stores a finished window for good, and removes its partial. Idempotent.

        A key has one outcome: sealing a sealed window changes nothing, and the stored tokens are the ones to use. If
        they are not those given, because another kind of machine sampled them, a warning says so.

        Args:
            key: The window's key.
            tokens: All tokens of the window, in a form that `write_partial` takes.
            first: Absolute position of the first of them in its level.
            causes: All that the key hashes.

        Raises:
            ValueError: The tokens are of another shape, dtype or range.
            TypeError: The causes hold what canonical JSON cannot.
        """
        self._execute(lambda: self.seal_stored(key, to_stored(tokens, first, causes)))

    def write_stored_partial(self, key: str, partial: Stored) -> None:
        """Stores a partial as `write_partial` does, from its content, at once."""
        self._objects.replace(_partial_name(key), encode(key, partial))

    def seal_stored(self, key: str, sealed: Stored) -> None:
        """Stores a finished window as `seal` does, from its content, at once."""
        name, data = _sealed_name(key), encode(key, sealed)
        while not self._objects.create(name, data):
            try:
                found = self._read(name, key)
            except DamagedError as error:
                _log.warning("%s", error)
                continue  # the name is free now
            if found is not None and not found.same_tokens(sealed):
                _log.warning(
                    "window %s is sealed in %s with other tokens, sampled on another kind of machine or by another "
                    "build of torch; the tokens stored first are kept and used",
                    key[:12],
                    self.uri,
                )
            if found is not None:
                break
        self._objects.remove(_partial_name(key))

    def _read(self, name: str, key: str) -> Stored | None:
        data = self._objects.read(name)
        if data is None:
            return None
        try:
            return decode(data, key, f"{self.uri}/{name}")
        except FormatError as error:
            where = self._set_aside(name, data)
            raise DamagedError(
                f"{name} in {self.uri} is damaged ({error}); it was moved to {where}; run the command again to "
                "sample the window",
                name,
            ) from error

    def _set_aside(self, name: str, data: bytes) -> str:
        where = f"damaged/{name.rpartition('/')[2]}.{digest_bytes(data)[:8]}"
        self._objects.replace(where, data)
        if self._objects.read(name) == data:  # not if another process has already stored a good one
            self._objects.remove(name)
        return where


def _call(write: Callable[[], None]) -> None:
    write()


def _sealed_name(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise StoreError(f"key {key!r} is not 64 lower-case hexadecimal digits; make it with base.hashing.digest")
    return f"windows/{key[:2]}/{key}.safetensors"


def _partial_name(key: str) -> str:
    return f"{_sealed_name(key).removesuffix('.safetensors')}.part.safetensors"
