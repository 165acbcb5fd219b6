"""The token store under random interleavings of writers, readers and damage, against a dictionary."""

from __future__ import annotations

import uuid

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jukebox_core.base.hashing import digest
from jukebox_core.errors import DamagedError, StoreError
from jukebox_core.store.store import TokenStore

KEYS = [digest(number) for number in range(3)]
_INT32 = st.integers(-(2**31), 2**31 - 1)
_keys = st.sampled_from(KEYS)
_tokens = st.lists(_INT32, max_size=6)


class _StoreMachine(RuleBasedStateMachine):
    """Two stores at one address must together behave as two dictionaries, of sealed and of unfinished windows."""

    def __init__(self) -> None:
        super().__init__()
        uri = f"memory://{uuid.uuid4().hex}"
        self.stores = [TokenStore(uri), TokenStore(uri)]
        self.sealed: dict[str, list[int] | None] = {}  # None: damaged, not yet noticed
        self.partial: dict[str, list[int] | None] = {}

    def teardown(self) -> None:
        system = fsspec.filesystem("memory")
        if system.exists(self.stores[0].uri):
            system.rm(self.stores[0].uri, recursive=True)

    @rule(who=st.integers(0, 1), key=_keys, tokens=_tokens)
    def flush(self, who: int, key: str, tokens: list[int]) -> None:
        self.stores[who].write_partial(key, np.array(tokens, np.int32), first=len(tokens), causes={"key": key})
        self.partial[key] = tokens

    @rule(who=st.integers(0, 1), key=_keys, tokens=_tokens)
    def seal(self, who: int, key: str, tokens: list[int]) -> None:
        self.stores[who].seal(key, np.array(tokens, np.int32), first=0, causes={"key": key})
        if self.sealed.get(key) is None:
            self.sealed[key] = tokens  # who comes second changes nothing
        self.partial.pop(key, None)

    @rule(who=st.integers(0, 1), key=_keys)
    def remove(self, who: int, key: str) -> None:
        self.stores[who].remove(key)
        self.sealed.pop(key, None)
        self.partial.pop(key, None)

    @rule(key=_keys, at=st.integers(0, 10_000), bit=st.integers(0, 7), part=st.booleans())
    def damage(self, key: str, at: int, bit: int, part: bool) -> None:
        state = self.partial if part else self.sealed
        if state.get(key) is None:
            return
        name = f"windows/{key[:2]}/{key}{'.part' if part else ''}.safetensors"
        objects = self.stores[0]._objects
        data = bytearray(objects.read(name) or b"")
        data[at % len(data)] ^= 1 << bit
        objects.replace(name, bytes(data))
        state[key] = None

    @rule(who=st.integers(0, 1), key=_keys)
    def read(self, who: int, key: str) -> None:
        if self.sealed.get(key) is not None:
            found = self.stores[who].read(key)
            assert found.tokens.tolist() == self.sealed[key]
            assert (found.first, found.causes) == (0, {"key": key})
        else:
            with pytest.raises(DamagedError if key in self.sealed else StoreError):
                self.stores[who].read(key)
            self.sealed.pop(key, None)

    @rule(who=st.integers(0, 1), key=_keys)
    def read_partial(self, who: int, key: str) -> None:
        found = self.stores[who].read_partial(key)
        wanted = self.partial.get(key)
        assert (None if found is None else found.tokens.tolist()) == wanted
        if wanted is None:
            self.partial.pop(key, None)
        elif found is not None:
            assert found.first == len(wanted)

    @invariant()
    def both_see_the_same_keys(self) -> None:
        for store in self.stores:
            assert store.keys() == sorted(self.sealed)
            assert [store.sealed(key) for key in KEYS] == [key in self.sealed for key in KEYS]
            assert store.partials() == sorted(self.partial.keys() - self.sealed)


TestStoreMachine = _StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=40, stateful_step_count=25)

_causes = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=80),
    max_size=4,
)


@given(tokens=st.lists(_INT32, max_size=50), first=st.integers(0, 2**62), causes=_causes)
def test_any_window_comes_back_as_it_was(tokens: list[int], first: int, causes: dict[str, object]) -> None:
    """Whatever the causes hold, zeros and quotes included, the header stays readable and its digest in its place."""
    causes = {**causes, "zeros": "0" * 64, "quote": '"digest":"'}
    store = TokenStore(f"memory://{uuid.uuid4().hex}")
    store.seal(KEYS[0], np.array(tokens, np.int32), first=first, causes=causes)
    found = store.read(KEYS[0])
    assert (found.tokens.tolist(), found.first, found.causes) == (tokens, first, causes)
