"""The bytes of a stored window: self-describing, checked when read, and equal for equal content."""

from __future__ import annotations

import json
import random
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from jukebox_core.base.hashing import digest, digest_bytes
from jukebox_core.errors import DamagedError, StoreError
from jukebox_core.store.store import TokenStore

if TYPE_CHECKING:
    from pathlib import Path

KEY, OTHER = digest("one"), digest("other")
CAUSES = {"level": 2, "seed": 7, "parents": [OTHER], "weights": "ab", "temperature": 0.99}
TOKENS = np.arange(300, dtype=np.int32) * 7 % 2048
GRID = np.arange(12, dtype=np.int64).reshape(3, 4) << 40


def _damage(store: TokenStore, name: str, data: bytes) -> None:
    store._objects.replace(name, data)


def _name(key: str, part: str = "") -> str:
    return f"windows/{key[:2]}/{key}{part}.safetensors"


@pytest.fixture
def memory() -> TokenStore:
    return TokenStore(f"memory://{uuid.uuid4().hex}")


def _sealed_bytes(store: TokenStore, tokens: np.ndarray = TOKENS) -> bytes:
    store.seal(KEY, tokens, first=64, causes=CAUSES)
    data = store._objects.read(_name(KEY))
    assert data is not None
    return data


def test_it_is_a_safetensors_file_that_explains_itself(tmp_path: Path) -> None:
    TokenStore(tmp_path).seal(KEY, TOKENS, first=64, causes=CAUSES)
    path = tmp_path / _name(KEY)
    assert np.array_equal(safetensors.numpy.load_file(path)["tokens"], TOKENS)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata["causes"]) == CAUSES
    assert (metadata["schema"], metadata["key"], metadata["first"]) == ("1", KEY, "64")
    assert metadata["tokens_sha256"] == digest_bytes(TOKENS.tobytes())


def test_every_flipped_bit_and_every_truncation_is_detected(memory: TokenStore) -> None:
    data = _sealed_bytes(memory, TOKENS[:40])
    chance = random.Random(0)
    flips = {chance.randrange(8 * len(data)) for _ in range(250)} | set(range(200))
    damaged = [data[:length] for length in [*range(0, 200, 7), *(chance.randrange(len(data)) for _ in range(50))]]
    damaged += [data + b"\0", data + data, b"\0" * len(data)]
    for bit in flips:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(changed))
    for content in damaged:
        _damage(memory, _name(KEY), content)
        with pytest.raises(DamagedError):
            memory.read(KEY)
        assert not memory.sealed(KEY)
    _damage(memory, _name(KEY), data)
    assert np.array_equal(memory.read(KEY).tokens, TOKENS[:40])


def test_a_good_object_under_another_key_is_damage(memory: TokenStore) -> None:
    _damage(memory, _name(OTHER), _sealed_bytes(memory))
    with pytest.raises(DamagedError, match=f"it holds the window {KEY[:12]}"):
        memory.read(OTHER)


def test_a_foreign_safetensors_file_is_damage(memory: TokenStore) -> None:
    foreign = safetensors.numpy.save({"tokens": TOKENS}, metadata={"schema": "1", "key": KEY})
    _damage(memory, _name(KEY), foreign)
    with pytest.raises(DamagedError, match="not an object of this store"):
        memory.read(KEY)


def _resign(data: bytes) -> bytes:
    """Returns the object with the digest that fits its content."""
    at = data.index(b'"digest":"') + len(b'"digest":"')
    blank = data[:at] + b"0" * 64 + data[at + 64 :]
    return data[:at] + digest_bytes(blank).encode() + data[at + 64 :]


def test_a_newer_schema_is_refused_and_left_in_place(memory: TokenStore) -> None:
    newer = _resign(_sealed_bytes(memory).replace(b'"schema":"1"', b'"schema":"3"'))
    for name in (_name(KEY), _name(KEY, ".part")):
        _damage(memory, name, newer)
    for read in (memory.read, memory.read_partial):
        with pytest.raises(StoreError, match=r"schema 3.*update this program") as refused:
            read(KEY)
        assert not isinstance(refused.value, DamagedError)
    assert memory.sealed(KEY)


def test_a_header_without_our_fields_is_damage(memory: TokenStore) -> None:
    _damage(memory, _name(KEY), _resign(_sealed_bytes(memory).replace(b'"first":', b'"fjrst":')))
    with pytest.raises(DamagedError, match="no known schema"):
        memory.read(KEY)


def test_the_same_window_is_the_same_bytes(memory: TokenStore) -> None:
    other = TokenStore(f"memory://{uuid.uuid4().hex}")
    data = _sealed_bytes(memory)
    other.seal(KEY, TOKENS.astype(np.int64), first=64, causes=dict(reversed(CAUSES.items())))
    assert other._objects.read(_name(KEY)) == data


def test_tokens_are_stored_as_earlier_versions_stored_them(memory: TokenStore) -> None:
    """The sha256 of two objects that the version before schema 2 wrote."""
    sealed = _sealed_bytes(memory)
    assert digest_bytes(sealed) == "2dd1526bf04b5134720d3e8cda22fbbad7fed0ab891a2c0e7a4e4561a71db58b"
    memory.write_partial(OTHER, TOKENS[:100] - 79, first=64, causes=CAUSES)
    partial = memory._objects.read(_name(OTHER, ".part"))
    assert partial is not None
    assert digest_bytes(partial) == "43f06073d3c34a3da42e4c890155b15558314fcc5a475afb325ea6a64ad0ab42"


def test_a_partial_of_nothing_is_refused(memory: TokenStore) -> None:
    with pytest.raises(ValueError, match="tokens and state are both None"):
        memory.write_partial(KEY, None, first=0, causes={})


def test_an_object_with_a_state_is_a_safetensors_file_of_schema_2(tmp_path: Path) -> None:
    TokenStore(tmp_path).write_partial(KEY, GRID, first=64, causes=CAUSES, state=b"pass 3")
    path = tmp_path / _name(KEY, ".part")
    tensors = safetensors.numpy.load_file(path)
    assert np.array_equal(tensors["tokens"], GRID)
    assert (tensors["state"].dtype, tensors["state"].tobytes()) == (np.uint8, b"pass 3")
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata()["schema"] == "2"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"shape":[3,4]', b'"shape":[4,4]'),
        (b'"shape":[3,4]', b'"shape":[-3,4]'),
        (b'"shape":[3,4]', b'"shape":"3,4"'),
        (b'"dtype":"I64"', b'"dtype":"I32"'),
        (b'"dtype":"I64"', b'"dtype":"F64"'),
        (b'"data_offsets":[0,96]', b'"data_offsets":[8,96]'),
        (b'"state":', b'"stale":'),
        (b'"tokens":', b'"takens":'),
        (b'"schema":"2"', b'"schema":"1"'),
    ],
)
def test_a_header_at_odds_with_its_content_is_damage(memory: TokenStore, before: bytes, after: bytes) -> None:
    memory.write_partial(KEY, GRID, first=0, causes=CAUSES, state=b"pass 3")
    data = memory._objects.read(_name(KEY, ".part"))
    assert data is not None
    assert data.count(before) == 1
    changed = data.replace(before, after)
    grown = len(changed) - len(data)
    changed = (int.from_bytes(data[:8], "little") + grown).to_bytes(8, "little") + changed[8:]
    _damage(memory, _name(KEY), _resign(changed))
    with pytest.raises(DamagedError):
        memory.read(KEY)


def test_an_empty_window_can_be_stored(memory: TokenStore) -> None:
    memory.seal(KEY, np.empty(0, np.int32), first=0, causes={})
    assert memory.read(KEY).tokens.shape == (0,)


@pytest.mark.parametrize(
    "tokens", [[1.5], [[1.5]], [2**31], [-(2**31) - 1], np.array(3), ["a"], [True], np.zeros((2, 2), np.int16)]
)
def test_tokens_that_cannot_be_stored_are_refused(memory: TokenStore, tokens: Any) -> None:
    with pytest.raises(ValueError, match="tokens"):
        memory.seal(KEY, tokens, first=0, causes={})
    assert not memory.sealed(KEY)
