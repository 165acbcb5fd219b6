"""Single numbers of numpy within a pickle, as plain numbers, without running what the pickle names."""

from __future__ import annotations

import pickle
import struct
from typing import Any

_FORMS = {
    "b1": "?",
    "i1": "b",
    "u1": "B",
    "i2": "h",
    "u2": "H",
    "i4": "i",
    "u4": "I",
    "i8": "q",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}
_ORDERS = {"<": "<", ">": ">", "|": "<", "=": "<"}


class _Kind:
    """Stands for numpy's dtype: a name such as ``f8``, and the byte order that follows it in the pickle."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


def _number(kind: _Kind, data: bytes) -> bool | int | float:
    if not isinstance(kind, _Kind) or kind.name not in _FORMS or kind.order not in _ORDERS:
        raise pickle.UnpicklingError("a number of numpy of an unknown kind")
    value: bool | int | float = struct.unpack(_ORDERS[kind.order] + _FORMS[kind.name], data)[0]
    return value


def _bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding!r}")
    return text.encode("latin1")


PERMITTED = {
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _bytes,  # the bytes of a number in pickles of the second protocol
}
