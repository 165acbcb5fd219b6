"""The token store: a window's tokens under the window's key, sealed once and never half there. Imports no torch.

One object a window, in safetensors format, under the root:

    windows/<key[:2]>/<key>.safetensors       sealed: all tokens of a finished window
    windows/<key[:2]>/<key>.part.safetensors  unfinished: the tokens drawn so far, replaced at each flush
    damaged/<file name>.<digits>              what failed its check when it was read
    tmp/                                      what is being written, and probes

The header's metadata holds `digest` (sha256 of the whole object with these 64 characters as zeros, in every schema, so
that one flipped bit anywhere shows), `schema`, `key`, `first` (position of the first token in its level),
`tokens_sha256` (of the tokens' bytes) and `causes` (canonical JSON of all that the key hashes, parents included).
The spelling is fixed: the same window is the same bytes, whoever stores it.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.errors import DamagedError, StoreError
from jukebox_core.tokens.keys import canonical_json, digest_bytes
from jukebox_core.tokens.objects import LocalObjects, open_objects

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

SCHEMA = 1
PROBE_BYTES = 2**16  # more than the object of a window of 8192 tokens

_log = logging.getLogger(__name__)
_KEY = re.compile(r"[0-9a-f]{64}")
_SEALED = re.compile(rf"windows/[0-9a-f]{{2}}/({_KEY.pattern})\.safetensors")
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

    Attributes:
        uri: The address; of a local store its absolute path.

    Raises:
        StoreError: The address has an unknown scheme, or one whose package is not installed. Every method raises it
            where the place itself fails: unreachable, full, access refused.
    """

    def __init__(self, uri: str | os.PathLike[str], *, options: Mapping[str, Any] | None = None) -> None:
        self._objects = open_objects(str(uri), options)
        self.uri = self._objects.uri

    def probe(self) -> None:
        """Stores, reads and removes an object of a window's size, so that a run fails at its start or not at all.

        Raises:
            StoreError: The store cannot be written, or does not give back what was written.
        """
        name, data = f"tmp/probe-{secrets.token_hex(8)}", secrets.token_bytes(PROBE_BYTES)
        self._objects.create(name, data)
        try:
            if self._objects.read(name) != data:
                raise StoreError(f"{self.uri} did not give back what was written to it; choose another place")
        finally:
            self._objects.remove(name)
        if isinstance(self._objects, LocalObjects):
            self._objects.sweep()

    def sealed(self, key: str) -> bool:
        """Whether the window is finished. Its content is checked by `read`, not here."""
        return self._objects.exists(_sealed_name(key))

    def keys(self) -> list[str]:
        """Returns the keys of all sealed windows, sorted."""
        matches = (_SEALED.fullmatch(name) for name in self._objects.names("windows"))
        return sorted(match[1] for match in matches if match)

    def read(self, key: str) -> Stored:
        """Returns a sealed window, checked.

        Raises:
            DamagedError: The object is not what was stored. It was set aside, and the window is unsealed again.
            StoreError: The window is not sealed, or was stored by a newer version of this program.
        """
        found = self._read(_sealed_name(key), key)
        if found is None:
            raise StoreError(f"window {key[:12]} is not in {self.uri}; run the command again to sample it")
        return found

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
        self._objects.replace(_partial_name(key), _encode(key, tokens, first, causes))

    def seal(self, key: str, tokens: ArrayLike, *, first: int, causes: Mapping[str, Any]) -> None:
        """Stores a finished window for good, and drops what was stored of it unfinished.

        Sealing a window again is fine if the tokens are the same. Arguments are those of `write_partial`.

        Raises:
            StoreError: The window is sealed with other tokens.
            ValueError: The tokens are of another shape, kind or range.
        """
        name, data = _sealed_name(key), _encode(key, tokens, first, causes)
        while not self._objects.create(name, data):
            try:
                found = self._read(name, key)
            except DamagedError as error:
                _log.warning("%s", error)
                continue  # the name is free now
            if found is not None and (found.first != first or not np.array_equal(found.tokens, np.asarray(tokens))):
                raise StoreError(
                    f"window {key[:12]} is sealed in {self.uri} with other tokens, but a key has only one outcome; "
                    "sample on one kind of machine, or use a store of its own for each"
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
                "the window anew"
            ) from error

    def _set_aside(self, name: str, data: bytes) -> str:
        where = f"damaged/{name.rpartition('/')[2]}.{digest_bytes(data)[:8]}"
        self._objects.replace(where, data)
        if self._objects.read(name) == data:  # not if another process has already stored a good one
            self._objects.remove(name)
        return where


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
