"""Token stores under random interleavings of writers, readers and damage, against two dictionaries.

Windows hold tokens, grids or other arrays, and partials a prefix, an opaque state or both; stores are in memory, on
local disk, and remote with a spool.
"""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jukebox_core.base.hashing import digest
from jukebox_core.errors import DamagedError, StoreError
from jukebox_core.store.config import SpoolConfig
from jukebox_core.store.spooled import SpooledStore
from jukebox_core.store.store import TokenStore

if TYPE_CHECKING:
    from jukebox_core.store.format import Stored

KEYS = [digest(number) for number in range(3)]
_INT32 = st.integers(-(2**31), 2**31 - 1)
_keys = st.sampled_from(KEYS)
_vectors = st.lists(_INT32, max_size=6).map(lambda tokens: np.array(tokens, np.int32))
_grids = arrays.arrays(
    st.sampled_from([np.int32, np.int64]), arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=4)
)
_others = arrays.arrays(st.sampled_from([np.uint8, np.float32]), arrays.array_shapes(max_dims=3, max_side=3))
_tokens = _vectors | _grids | _others
_partials = st.tuples(_tokens, st.none() | st.binary(max_size=9)) | st.tuples(st.none(), st.binary(max_size=9))

Content = tuple[str, tuple[int, ...], bytes, bytes | None]


def _content(tokens: np.ndarray | None, state: bytes | None = None) -> Content:
    """Returns the content that a reader must find, as values that can be compared (NaN too)."""
    array = np.empty(0, np.int32) if tokens is None else tokens
    return array.dtype.name, array.shape, array.tobytes(), state


def _found(stored: Stored) -> Content:
    return _content(stored.tokens, stored.state)


class _StoreMachine(RuleBasedStateMachine):
    """Two stores at one address must together behave as two dictionaries, of sealed windows and of partials."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.stores = self.open_stores()
        self.sealed: dict[str, Content | None] = {}  # None: damaged, not yet noticed
        self.partial: dict[str, Content | None] = {}

    def open_stores(self) -> list[TokenStore]:
        uri = f"memory://{uuid.uuid4().hex}"
        return [TokenStore(uri), TokenStore(uri)]

    def teardown(self) -> None:
        system = fsspec.filesystem("memory")
        if self.stores[0].uri.startswith("memory:") and system.exists(self.stores[0].uri):
            system.rm(self.stores[0].uri, recursive=True)
        self.folder.cleanup()

    @rule(number=st.integers(0, 1), key=_keys, partial=_partials)
    def write_partial(self, number: int, key: str, partial: tuple[np.ndarray | None, bytes | None]) -> None:
        tokens, state = partial
        first = len(state or b"")
        self.stores[number].write_partial(key, tokens, first=first, causes={"key": key}, state=state)
        self.partial[key] = _content(tokens, state)

    @rule(number=st.integers(0, 1), key=_keys, tokens=_tokens)
    def seal(self, number: int, key: str, tokens: np.ndarray) -> None:
        self.stores[number].seal(key, tokens, first=0, causes={"key": key})
        if self.sealed.get(key) is None:
            self.sealed[key] = _content(tokens)  # the second seal changes nothing
        self.partial.pop(key, None)

    @rule(number=st.integers(0, 1), key=_keys)
    def remove(self, number: int, key: str) -> None:
        self.stores[number].remove(key)
        self.sealed.pop(key, None)
        self.partial.pop(key, None)

    @rule(key=_keys, at=st.integers(0, 10_000), bit=st.integers(0, 7), part=st.booleans())
    def damage(self, key: str, at: int, bit: int, part: bool) -> None:
        expected = self.partial if part else self.sealed
        if expected.get(key) is None:
            return
        name = f"windows/{key[:2]}/{key}{'.part' if part else ''}.safetensors"
        objects = self.stores[0]._objects
        data = bytearray(objects.read(name) or b"")
        data[at % len(data)] ^= 1 << bit
        objects.replace(name, bytes(data))
        expected[key] = None

    @rule(number=st.integers(0, 1), key=_keys)
    def read(self, number: int, key: str) -> None:
        if self.sealed.get(key) is not None:
            found = self.stores[number].read(key)
            assert _found(found) == self.sealed[key]
            assert (found.first, found.causes) == (0, {"key": key})
        else:
            with pytest.raises(DamagedError if key in self.sealed else StoreError):
                self.stores[number].read(key)
            self.sealed.pop(key, None)

    @rule(number=st.integers(0, 1), key=_keys)
    def read_partial(self, number: int, key: str) -> None:
        found = self.stores[number].read_partial(key)
        expected = self.partial.get(key)
        assert (None if found is None else _found(found)) == expected
        if expected is None:
            self.partial.pop(key, None)
        elif found is not None:
            assert (found.first, found.causes) == (len(expected[3] or b""), {"key": key})

    @invariant()
    def both_see_the_same_keys(self) -> None:
        for store in self.stores:
            assert store.keys() == sorted(self.sealed)
            assert [store.sealed(key) for key in KEYS] == [key in self.sealed for key in KEYS]
            assert store.partials() == sorted(self.partial.keys() - self.sealed)
            sealed, partial = store.sizes()
            assert [store.size(key) for key in KEYS] == [sealed.get(key, 0) + partial.get(key, 0) for key in KEYS]


class _LocalMachine(_StoreMachine):
    def open_stores(self) -> list[TokenStore]:
        return [TokenStore(self.folder.name), TokenStore(self.folder.name)]


class _SpooledMachine(_StoreMachine):
    """Two stores of one process share a spool; every write is delivered before it returns."""

    def open_stores(self) -> list[TokenStore]:
        uri = f"memory://{uuid.uuid4().hex}"
        config = SpoolConfig(folder=self.folder.name, patience_seconds=300.0)
        self.spooled = [SpooledStore(uri, spool=config), SpooledStore(uri, spool=config)]
        return [*self.spooled]

    @invariant()
    def nothing_is_pending(self) -> None:
        assert [*Path(self.folder.name).rglob("*.safetensors")] == []

    def teardown(self) -> None:
        self.spooled[0]._spool.close()
        super().teardown()


TestStoreMachine = _StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=40, stateful_step_count=25)
TestLocalMachine = _LocalMachine.TestCase
TestLocalMachine.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
TestSpooledMachine = _SpooledMachine.TestCase
TestSpooledMachine.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)

_causes = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=80),
    max_size=4,
)


@given(tokens=_tokens, state=st.none() | st.binary(max_size=50), first=st.integers(0, 2**62), causes=_causes)
def test_any_window_comes_back_as_it_was(
    tokens: np.ndarray, state: bytes | None, first: int, causes: dict[str, Any]
) -> None:
    """Whatever the causes hold, zeros and quotes included, the header stays readable and its digest in its place."""
    causes = {**causes, "zeros": "0" * 64, "quote": '"digest":"'}
    store = TokenStore(f"memory://{uuid.uuid4().hex}")
    store.seal(KEYS[0], tokens, first=first, causes=causes)
    found = store.read(KEYS[0])
    assert (_found(found), found.first, found.causes) == (_content(tokens), first, causes)
    store.write_partial(KEYS[1], tokens, first=first, causes=causes, state=state)
    partial = store.read_partial(KEYS[1])
    assert partial is not None
    assert (_found(partial), partial.first, partial.causes) == (_content(tokens, state), first, causes)
