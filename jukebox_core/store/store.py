"""The token store: a window's tokens under the window's key, sealed once and never half there. Imports no torch.

One object a window, in safetensors format, under the root:

    windows/<key[:2]>/<key>.safetensors       sealed: all tokens of a finished window
    windows/<key[:2]>/<key>.part.safetensors  unfinished: the tokens drawn so far, replaced at each flush
    damaged/<file name>.<digits>              what failed its check when it was read
    runs/<digits>.json                        which windows a run needs (`tokens.pins`)
    tmp/                                      what is being written, and probes
    store.json                                the schema of the whole, written by the first probe

The header's metadata holds `digest` (sha256 of the whole object with these 64 characters as zeros, in every schema, so
that one flipped bit anywhere shows), `schema`, `key`, `first` (position of the first token in its level),
`tokens_sha256` (of the tokens' bytes) and `causes` (canonical JSON of all that the key hashes, parents included).
The spelling is fixed: the same window is the same bytes, whoever stores it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.base.hashing import canonical_json, digest_bytes
from jukebox_core.errors import DamagedError, StoreError
from jukebox_core.store.objects import LocalObjects, open_objects

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from numpy.typing import ArrayLike, NDArray

    from jukebox_core.store.config import RetryConfig

SCHEMA = 1  # of an object
LAYOUT = 1  # of the store: which objects there are, and their names
PROBE_BYTES = 2**16  # more than the object of a window of 8192 tokens

_log = logging.getLogger("jukebox.store")
_KEY = re.compile(r"[0-9a-f]{64}")
_SEALED = re.compile(rf"windows/[0-9a-f]{{2}}/({_KEY.pattern})\.safetensors")
_PARTIAL = re.compile(rf"windows/[0-9a-f]{{2}}/({_KEY.pattern})\.part\.safetensors")
_MARK = "store.json"
_SIDE_BY_SIDE = 8  # writes: disks and servers take several in the time of one
_FEW = 32  # windows that are asked for one by one; more are looked up in a listing
_LENGTH = struct.Struct("<Q")  # safetensors: length of the header
_PREFIX = b'{"__metadata__":{"digest":"'
_DIGEST = slice(_LENGTH.size + len(_PREFIX), _LENGTH.size + len(_PREFIX) + 64)
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """What the store holds of a window."""

    tokens: NDArray[np.int32]  # [time]; of an unfinished window the raw tokens, which may be negative
    first: int  # absolute position of the first of them in its level
    causes: dict[str, Any]  # all that the window's key hashes
    digest: str  # sha256 of the tokens as little-endian int32


class TokenStore:
    """Windows of tokens under their keys, on local disk or object storage.

    Any number of processes may read and write one store at a time: an object appears whole, and a sealed one never
    changes. The path or address is not checked here but by `probe`.

    Args:
        uri: A local path, or an fsspec address such as ``s3://bucket/folder``.
        options: Settings of the fsspec file system, such as ``client_kwargs``.
        retry: How often a request is made again that failed for a passing reason.

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
        self._here = threading.local()  # of each thread: `hand_over`, within a block of writes

    def probe(self) -> None:
        """Stores, reads and removes an object of a window's size, so that a run fails at its start or not at all.

        Raises:
            StoreError: The store cannot be written, does not give back what was written, or was laid out by a newer
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
            self._objects.sweep()

    def _check_layout(self) -> None:
        mark = self._objects.read(_MARK)
        if mark is None:
            self._objects.create(_MARK, json.dumps({"schema": LAYOUT}).encode("ascii"))
            return
        try:
            layout = int(json.loads(mark)["schema"])
        except (ValueError, TypeError, KeyError):
            raise StoreError(f"{self.uri}/{_MARK} is not that of a token store; choose another place") from None
        if layout > LAYOUT:
            raise StoreError(
                f"{self.uri} has schema {layout}, and this version knows up to {LAYOUT}; update this program, or use "
                "another store"
            )

    def settle(self, seconds: float = 60.0) -> None:
        """Returns when all that was written is in the store; here, that is always so."""

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A block whose writes, of this thread, are made side by side: all are stored when it ends.

        Raises:
            StoreError: One of them failed.
        """
        writes: list[Future[None]] = []
        with ThreadPoolExecutor(_SIDE_BY_SIDE, "store") as pool:
            self._here.hand_over = lambda write: writes.append(pool.submit(write))
            try:
                yield
            finally:
                del self._here.hand_over
        for write in writes:
            write.result()

    def _carry_out(self, write: Callable[[], None]) -> None:
        """Makes a write, or hands it over where it is one of several."""
        getattr(self._here, "hand_over", _at_once)(write)

    def sealed(self, key: str) -> bool:
        """Whether the window is finished. Its content is checked by `read`, not here."""
        return self._objects.exists(_sealed_name(key))

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Returns those of `keys` that are not sealed; cheaper than asking for each."""
        wanted = set(keys)
        if len(wanted) > _FEW:
            return wanted.difference(self.keys())
        return {key for key in wanted if not self.sealed(key)}

    def keys(self) -> list[str]:
        """Returns the keys of all sealed windows, sorted."""
        return sorted(self.sizes()[0])

    def partials(self) -> list[str]:
        """Returns the keys of all unfinished windows of which something is stored, sorted."""
        sealed, partial = self.sizes()
        return sorted(partial.keys() - sealed)  # a run that is killed as it seals a window leaves its unfinished part

    def sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        """Returns the bytes of each sealed window, and of each unfinished part, by key: one listing of the store."""
        listing = self._objects.sizes("windows").items()
        sealed = {match[1]: size for name, size in listing if (match := _SEALED.fullmatch(name))}
        partial = {match[1]: size for name, size in listing if (match := _PARTIAL.fullmatch(name))}
        return sealed, partial

    def size(self, key: str) -> int:
        """Returns the bytes that are stored of a window, finished or not; 0 if there is nothing."""
        return sum(self._objects.size(name) or 0 for name in (_sealed_name(key), _partial_name(key)))

    def remove(self, *keys: str) -> None:
        """Removes all that is stored of these windows, finished or not."""
        names = [name for key in keys for name in (_sealed_name(key), _partial_name(key))]
        if len(keys) > _FEW:
            there = self._objects.sizes("windows")
            names = [name for name in names if name in there]
        if names:
            self._objects.remove(*names)

    def read(self, key: str) -> Stored:
        """Returns a sealed window, checked.

        Raises:
            DamagedError: The object is not what was stored. It was set aside, and the window is unsealed again.
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
        """Returns what is stored of an unfinished window, checked; None if that is nothing.

        A damaged object is set aside with a warning and counts as nothing.

        Raises:
            StoreError: The object was stored by a newer version of this program.
        """
        try:
            return self._read(_partial_name(key), key)
        except DamagedError as error:
            _log.warning("%s", error)
            return None

    def write_partial(self, key: str, tokens: ArrayLike, *, first: int, causes: Mapping[str, Any]) -> None:
        """Stores the tokens drawn so far of an unfinished window, in the place of those stored before.

        Args:
            key: The window's key.
            tokens: Raw tokens [time], whole numbers that fit in int32.
            first: Absolute position of the first of them in its level.
            causes: All that the key hashes.

        Raises:
            ValueError: The tokens are of another shape, kind or range.
            TypeError: The causes hold what canonical JSON cannot.
        """
        self._carry_out(lambda: self._replace_partial(key, tokens, first, causes))

    def seal(self, key: str, tokens: ArrayLike, *, first: int, causes: Mapping[str, Any]) -> None:
        """Stores a finished window for good, and drops what was stored of it unfinished.

        A key has one outcome: who seals a window that is sealed already changes nothing, and goes on with the tokens
        that are stored. If they are not those given, because another kind of machine sampled them, a warning says so.

        Args:
            key: The window's key.
            tokens: All tokens of the window [time], whole numbers that fit in int32.
            first: Absolute position of the first of them in its level.
            causes: All that the key hashes.

        Raises:
            ValueError: The tokens are of another shape, kind or range.
            TypeError: The causes hold what canonical JSON cannot.
        """
        self._carry_out(lambda: self._create_sealed(key, tokens, first, causes))

    def _replace_partial(self, key: str, tokens: ArrayLike, first: int, causes: Mapping[str, Any]) -> None:
        self._objects.replace(_partial_name(key), _encode(key, tokens, first, causes))

    def _create_sealed(self, key: str, tokens: ArrayLike, first: int, causes: Mapping[str, Any]) -> None:
        name, data = _sealed_name(key), _encode(key, tokens, first, causes)
        while not self._objects.create(name, data):
            try:
                found = self._read(name, key)
            except DamagedError as error:
                _log.warning("%s", error)
                continue  # the name is free now
            if found is not None and (found.first != first or not np.array_equal(found.tokens, np.asarray(tokens))):
                _log.warning(
                    "window %s is sealed in %s with other tokens, sampled on another kind of machine or by another "
                    "build of torch; those that were there first are kept and used",
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
            return _decode(data, key, f"{self.uri}/{name}")
        except _FormError as error:
            where = self._set_aside(name, data)
            raise DamagedError(
                f"{name} in {self.uri} is damaged ({error}); it was moved to {where}, and running again samples "
                "the window anew",
                name,
            ) from error

    def _set_aside(self, name: str, data: bytes) -> str:
        where = f"damaged/{name.rpartition('/')[2]}.{digest_bytes(data)[:8]}"
        self._objects.replace(where, data)
        if self._objects.read(name) == data:  # not if another process has already stored a good one
            self._objects.remove(name)
        return where


def _at_once(write: Callable[[], None]) -> None:
    write()


class _FormError(Exception):
    """The bytes are not an object of this store."""


def _sealed_name(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise StoreError(f"key {key!r} is not 64 lower-case hexadecimal digits; make it with tokens.keys.digest")
    return f"windows/{key[:2]}/{key}.safetensors"


def _partial_name(key: str) -> str:
    return f"{_sealed_name(key).removesuffix('.safetensors')}.part.safetensors"


def _encode(key: str, tokens: ArrayLike, first: int, causes: Mapping[str, Any]) -> bytes:
    array = np.asarray(tokens)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"tokens have shape {array.shape} and dtype {array.dtype}; give whole numbers [time]")
    limits = np.iinfo(np.int32)
    if array.size and not limits.min <= array.min() <= array.max() <= limits.max:
        raise ValueError(f"tokens range from {array.min()} to {array.max()}; they must fit in int32")
    body = array.astype("<i4").tobytes()
    metadata = {
        "digest": _NO_DIGEST,  # first, so that its place is known
        "schema": str(SCHEMA),
        "key": key,
        "first": str(first),
        "tokens_sha256": digest_bytes(body),
        "causes": canonical_json(dict(causes)),
    }
    tensor = {"dtype": "I32", "shape": [array.size], "data_offsets": [0, len(body)]}
    text = json.dumps({"__metadata__": metadata, "tokens": tensor}, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)  # the tokens begin aligned
    data = _LENGTH.pack(len(text)) + text + body
    return data[: _DIGEST.start] + digest_bytes(data).encode("ascii") + data[_DIGEST.stop :]


def _decode(data: bytes, key: str, where: str) -> Stored:
    """Returns what `data` holds of the window `key`.

    Raises:
        _FormError: It is not what was stored.
        StoreError: It is, but a newer version of this program stored it.
    """
    if data[_LENGTH.size : _DIGEST.start] != _PREFIX:
        raise _FormError("it is not an object of this store")
    blank = data[: _DIGEST.start] + _NO_DIGEST.encode("ascii") + data[_DIGEST.stop :]
    if data[_DIGEST] != digest_bytes(blank).encode("ascii"):
        raise _FormError("its digest does not match its content")
    body = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    try:
        metadata = json.loads(data[_LENGTH.size : body])["__metadata__"]
        if int(metadata["schema"]) > SCHEMA:
            raise StoreError(
                f"{where} has schema {metadata['schema']}, and this version reads up to {SCHEMA}; update this "
                "program, or use another store"
            )
        if metadata["key"] != key:
            raise _FormError(f"it holds the window {metadata['key'][:12]}")
        tokens = np.frombuffer(data, "<i4", offset=body).astype(np.int32)
        return Stored(tokens, int(metadata["first"]), json.loads(metadata["causes"]), metadata["tokens_sha256"])
    except (KeyError, ValueError) as error:
        raise _FormError(f"its header is of no known schema: {error!r}") from error
