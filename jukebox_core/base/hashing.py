"""Keys are causes: one spelling for every value that can cause tokens, and the hash of it. Imports no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

_ALREADY_PLAIN = frozenset({str, int, bool, type(None)})
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_Json: TypeAlias = "str | int | float | bool | list[_Json] | dict[str, _Json] | None"


def canonical_json(value: object) -> str:
    """Returns the canonical JSON of `value`: ASCII, keys sorted, no spaces, floats as Python's shortest exact form.

    Two values have the same text if and only if they are the same data. Lists and tuples count as the same, and so
    do a dataclass and the dict of its fields; 1, 1.0 and True stay apart.

    Args:
        value: A str, int, float, bool or None, or a list, tuple, dict with str keys, or dataclass of such values.

    Raises:
        TypeError: Some part is of another type, whose text could differ between runs.
        ValueError: Some number is not finite.
    """
    return _ENCODER.encode(_plain(value, "value"))


def digest(value: object) -> str:
    """Returns the sha256 of the canonical JSON of `value`, as 64 hexadecimal digits.

    Raises:
        TypeError: As `canonical_json`.
        ValueError: As `canonical_json`.
    """
    return digest_bytes(canonical_json(value).encode("ascii"))


def digest_bytes(data: bytes | memoryview) -> str:
    """Returns the sha256 of `data`, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Returns the sha256 of a file's content, as 64 hexadecimal digits, reading it in blocks.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: object, where: str) -> _Json:
    """Returns `value` in JSON's own types; `where` is how to reach it from the whole, for the error."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; a key can only hash finite numbers")
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        if _ALREADY_PLAIN.issuperset(map(type, value)):  # labels and spans: most of what a key hashes
            return list(value)
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"{where} has the key {name!r} of type {type(name).__name__}; use text")
        return {name: _plain(item, f"{where}[{name!r}]") for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value), where)
    raise TypeError(
        f"{where} is a {type(value).__name__}; a key hashes str, int, float, bool, None, list, tuple, dict and "
        "dataclass: convert it to one of them"
    )
