"""The bytes of a stored window: a safetensors object with one spelling, checked when it is read. Imports no torch.

The header's metadata holds `digest` (sha256 of the whole object with these 64 characters as zeros, in every schema, so
that one flipped bit anywhere shows), `schema`, `key`, `first` (position of the first token in its level),
`tokens_sha256` (of the tokens' bytes) and `causes` (canonical JSON of all that the key hashes, parents included). The
tensors are ``tokens`` and, in an unfinished window that has one, ``state`` (uint8 [bytes]).

    schema 1   tokens int32 [time], no state
    schema 2   tokens of any shape and of a dtype of `DTYPES`, or a state

The spelling is fixed, and an object has the lowest schema that can hold it: equal content gives equal bytes.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.base.hashing import canonical_json, digest_bytes
from jukebox_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

SCHEMA = 2  # the newest that is written and read
DTYPES = {"I32": "<i4", "I64": "<i8", "U8": "|u1", "F32": "<f4"}
"""The dtypes of a window's tokens, by their names in safetensors."""

_LENGTH = struct.Struct("<Q")  # safetensors: length of the header
_PREFIX = b'{"__metadata__":{"digest":"'
_DIGEST = slice(_LENGTH.size + len(_PREFIX), _LENGTH.size + len(_PREFIX) + 64)
_NO_DIGEST = "0" * 64
_INT32 = np.iinfo(np.int32)


class FormatError(Exception):
    """The bytes are not an object of this store."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """The content of a stored window."""

    tokens: NDArray[Any]  # shape and dtype as stored; of an unfinished window the raw tokens, which may be negative
    first: int  # absolute position of the first of them in its level
    causes: dict[str, Any]  # all that the window's key hashes
    digest: str  # sha256 of the tokens' bytes: little-endian, last axis fastest
    state: bytes | None = None  # of an unfinished window: from what its sampler resumes, besides the tokens

    def same_tokens(self, other: Stored) -> bool:
        """Whether position, shape, dtype and tokens are those of `other`."""
        mine, theirs = self.tokens, other.tokens
        return (self.first, mine.shape, mine.dtype, self.digest) == (
            other.first,
            theirs.shape,
            theirs.dtype,
            other.digest,
        )


def to_stored(tokens: ArrayLike | None, first: int, causes: Mapping[str, Any], state: bytes | None = None) -> Stored:
    """Returns the content to store, with the tokens in the shape and dtype in which they will be read.

    Args:
        tokens: whole numbers [time], stored as int32; or an array of any other shape, or uint8 or float32 [time],
            stored as it is: int32, int64, uint8 or float32. None: none, stored as int32 [0].
        first: absolute position of the first of them in its level.
        causes: all that the key hashes.
        state: an opaque state; needed if `tokens` is None.

    Raises:
        ValueError: the tokens are of another shape, dtype or range, or tokens and state are both None.
    """
    if tokens is None and state is None:
        raise ValueError("tokens and state are both None; give at least one of them")
    array = _canonical(np.asarray([] if tokens is None else tokens, np.int32 if tokens is None else None))
    return Stored(array, first, dict(causes), digest_bytes(_little_endian(array)), state)


def encode(key: str, stored: Stored) -> bytes:
    """Returns the object that holds `stored` as the window `key`.

    Raises:
        TypeError: the causes hold something that canonical JSON cannot.
    """
    array, body = stored.tokens, _little_endian(stored.tokens)
    plain = stored.state is None and array.ndim == 1 and array.dtype == np.int32
    metadata = {
        "digest": _NO_DIGEST,  # first, so that its place is known
        "schema": "1" if plain else "2",
        "key": key,
        "first": str(stored.first),
        "tokens_sha256": stored.digest,
        "causes": canonical_json(stored.causes),
    }
    dtype = next(name for name, code in DTYPES.items() if np.dtype(code) == array.dtype)
    tensors = {"tokens": {"dtype": dtype, "shape": list(array.shape), "data_offsets": [0, len(body)]}}
    if stored.state is not None:
        size = len(stored.state)
        tensors["state"] = {"dtype": "U8", "shape": [size], "data_offsets": [len(body), len(body) + size]}
        body += stored.state
    text = json.dumps({"__metadata__": metadata, **tensors}, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)  # the tokens begin aligned
    data = _LENGTH.pack(len(text)) + text + body
    return data[: _DIGEST.start] + digest_bytes(data).encode("ascii") + data[_DIGEST.stop :]


def decode(data: bytes, key: str, where: str) -> Stored:
    """Returns the content of the object `data` of the window `key`; `where` names the object in messages.

    Raises:
        FormatError: The object is damaged, of another window, or no object of this store.
        StoreError: A newer version of this program stored it.
    """
    if data[_LENGTH.size : _DIGEST.start] != _PREFIX:
        raise FormatError("it is not an object of this store")
    blank = data[: _DIGEST.start] + _NO_DIGEST.encode("ascii") + data[_DIGEST.stop :]
    if data[_DIGEST] != digest_bytes(blank).encode("ascii"):
        raise FormatError("its digest does not match its content")
    start = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    try:
        header = json.loads(data[_LENGTH.size : start])
        metadata = header.pop("__metadata__")
        if int(metadata["schema"]) > SCHEMA:
            raise StoreError(
                f"{where} has schema {metadata['schema']}, and this version reads up to {SCHEMA}; update this "
                "program, or use another store"
            )
        if metadata["key"] != key:
            raise FormatError(f"it holds the window {metadata['key'][:12]}")
        tokens, end = _tensor(data, start, 0, header.pop("tokens"))
        state, entry = None, header.pop("state", None)
        if entry is not None:
            array, end = _tensor(data, start, end, entry)
            state = array.tobytes()
        plain = state is None and tokens.ndim == 1 and tokens.dtype == np.int32
        if header or start + end != len(data) or (int(metadata["schema"]) == 1 and not plain):
            raise FormatError("its tensors are not those of its schema")
        return Stored(tokens, int(metadata["first"]), json.loads(metadata["causes"]), metadata["tokens_sha256"], state)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"its header is of no known schema: {error!r}") from error


def _tensor(data: bytes, start: int, offset: int, entry: Mapping[str, Any]) -> tuple[NDArray[Any], int]:
    """Returns the tensor that a header's `entry` describes, writable, and the offset of its end.

    `start` is where the tensors begin in `data`, and `offset` where this one must begin after that.
    """
    dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(map(int, entry["shape"]))
    end = offset + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or entry["data_offsets"] != [offset, end] or start + end > len(data):
        raise FormatError(f"its tensor of shape {list(shape)} and dtype {entry['dtype']} has other bytes")
    array = np.ndarray(shape, dtype, buffer=data, offset=start + offset)
    return array.astype(dtype.newbyteorder("=")), end


def _canonical(array: NDArray[Any]) -> NDArray[Any]:
    """Returns the array in the dtype in which it is stored.

    Raises:
        ValueError: its shape, dtype or range cannot be stored.
    """
    kinds = {np.dtype(code) for code in DTYPES.values()}
    if array.ndim == 1 and array.dtype.kind in "iu" and array.dtype != np.uint8:
        if array.size and not _INT32.min <= array.min() <= array.max() <= _INT32.max:
            raise ValueError(f"tokens range from {array.min()} to {array.max()}; they must fit in int32")
        return array.astype(np.int32)
    if array.ndim == 0 or array.dtype.newbyteorder("=") not in kinds:
        raise ValueError(
            f"tokens have shape {array.shape} and dtype {array.dtype}; give whole numbers [time], or an array of "
            "int32, int64, uint8 or float32"
        )
    return array.astype(array.dtype.newbyteorder("="))


def _little_endian(array: NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
