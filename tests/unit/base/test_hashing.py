"""One spelling for every value, and hashes that differ when anything does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jukebox_core.base.hashing import canonical_json, digest, digest_bytes, digest_file
from jukebox_core.families.jukebox.sampling.config import LevelSampling

if TYPE_CHECKING:
    from pathlib import Path


class _Span(NamedTuple):
    start: int
    stop: int


@dataclasses.dataclass
class _Inner:
    ratio: float
    names: tuple[str, ...]


@dataclasses.dataclass
class _Outer:
    inner: _Inner
    count: int


def test_spelling() -> None:
    value = {"b": [1, 1.0, True, None], "a": ("ü", -0.5e-7), "_": {}}
    assert canonical_json(value) == '{"_":{},"a":["\\u00fc",-5e-08],"b":[1,1.0,true,null]}'


def test_tuples_records_and_order_do_not_matter() -> None:
    assert canonical_json(_Span(1, 2)) == canonical_json([1, 2]) == "[1,2]"
    assert canonical_json(_Outer(_Inner(0.5, ("x",)), 3)) == '{"count":3,"inner":{"names":["x"],"ratio":0.5}}'
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1})
    assert digest(LevelSampling()) == digest(dataclasses.asdict(LevelSampling()))


@pytest.mark.parametrize(
    "pair", [(1, 1.0), (1, True), (0, False), ("1", 1), (None, "null"), ([], {}), ([[1], 2], [1, [2]])]
)
def test_different_data_hash_apart(pair: tuple[object, object]) -> None:
    assert digest(pair[0]) != digest(pair[1])


@pytest.mark.parametrize("value", [{1, 2}, b"x", np.int64(3), np.zeros(2), object(), _Outer, 1j])
def test_types_without_one_spelling_are_refused_with_their_place(value: object) -> None:
    with pytest.raises(TypeError, match=r"value\['a'\]\[1\] is a"):
        canonical_json({"a": [0, value]})


def test_keys_that_are_not_text_are_refused() -> None:
    with pytest.raises(TypeError, match="key 1 of type int"):
        canonical_json({"a": {1: 2}})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        digest([value])


def test_pinned_digest() -> None:
    """Changing the spelling would orphan every stored window."""
    wanted = hashlib.sha256(b'{"level":2,"reads":["ab"],"temperature":0.99}').hexdigest()
    assert digest({"temperature": 0.99, "reads": ("ab",), "level": 2}) == wanted


def test_digest_of_bytes_and_files(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    path = tmp_path / "file"
    path.write_bytes(content)
    assert digest_file(path) == digest_bytes(content) == hashlib.sha256(content).hexdigest()
    assert digest_bytes(b"") == hashlib.sha256().hexdigest()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON)
def test_the_text_is_json_and_keeps_the_data(value: object) -> None:
    text = canonical_json(value)
    assert text.isascii()
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


def test_tokens_modules_import_no_torch() -> None:
    code = "import sys, jukebox_core.base.hashing, jukebox_core.tokens.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
