"""Two processes at one window, stopped, interleaved and killed between any two requests to its store.

A reader may see nothing, a partial exactly as one of the processes stored it, or the sealed window; and once it
has seen the sealed window, that and nothing else. Partials are prefixes of tokens, of grids, or opaque states.
"""

from __future__ import annotations

import tempfile
import threading
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from jukebox_core.base.hashing import digest
from jukebox_core.store.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = digest("window")
WHOLE = 8
_STEPS = ("create", "replace", "read", "remove", "exists")


class _KilledError(BaseException):
    """Ends a process where it stands: nothing catches it."""


class _Process:
    """A process that makes one request to the place at each step."""

    def __init__(self, store: TokenStore, tokens: np.ndarray, program: list[int | None], kind: str) -> None:
        self.alive = True
        self._ready, self._go, self._killed = threading.Semaphore(0), threading.Semaphore(0), False
        objects = store._objects
        store._objects = _Watched(objects, self._turn)  # type: ignore[assignment]
        self._store, self._tokens, self._program, self._kind = store, tokens, program, kind
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.acquire()

    def step(self) -> None:
        self._go.release()
        self._ready.acquire()

    def kill(self) -> None:
        self._killed = True
        self.step()
        self._thread.join()

    def _turn(self) -> None:
        self._ready.release()
        self._go.acquire()
        if self._killed:
            raise _KilledError

    def _run(self) -> None:
        try:
            for count in self._program:
                if count is None:
                    self._store.seal(KEY, self._tokens, first=0, causes={})
                elif count:
                    tokens, state = _partial(self._tokens, count, self._kind)
                    self._store.write_partial(KEY, tokens, first=0, causes={}, state=state)
                else:
                    self._store.read_partial(KEY)
        except _KilledError:
            pass
        finally:
            self.alive = False
            self._ready.release()


class _Watched:
    """Objects whose every request waits for its turn."""

    def __init__(self, objects: Any, turn: Callable[[], None]) -> None:
        self._objects, self._turn = objects, turn

    def __getattr__(self, name: str) -> Any:
        if name in _STEPS:
            self._turn()
        return getattr(self._objects, name)


def _partial(tokens: np.ndarray, count: int, kind: str) -> tuple[np.ndarray | None, bytes | None]:
    """Returns the partial that a process stores after `count` steps."""
    prefix = tokens[..., :count]
    return {"prefix": (prefix, None), "state": (None, prefix.tobytes()), "both": (prefix, bytes([count]))}[kind]


_programs = st.lists(st.integers(0, WHOLE - 1) | st.none(), min_size=1, max_size=5)
_schedules = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), max_size=40)


def _check(
    store: TokenStore, allowed: list[np.ndarray], before: list[list[int]] | None, kind: str
) -> list[list[int]] | None:
    """Looks as a reader does; returns the sealed tokens, if any."""
    assert store._objects.sizes("damaged") == {}
    partial = store.read_partial(KEY)
    if partial is not None:
        found = [partial.tokens.tolist(), partial.state]
        stored = [_partial(tokens, count, kind) for tokens in allowed for count in range(1, WHOLE)]
        assert found in [[[] if tokens is None else tokens.tolist(), state] for tokens, state in stored]
    sealed = store.find(KEY)
    if sealed is None:
        assert before is None
        return None
    whole: list[list[int]] = sealed.tokens.tolist()
    assert whole in [tokens.tolist() for tokens in allowed]
    assert before in (None, whole)
    return whole


@pytest.mark.slow
@settings(max_examples=150)
@given(
    programs=st.tuples(_programs, _programs),
    schedule=_schedules,
    local=st.booleans(),
    same=st.booleans(),
    grid=st.booleans(),
    kind=st.sampled_from(["prefix", "state", "both"]),
)
def test_a_reader_sees_nothing_a_partial_or_the_whole(
    programs: tuple[list[int | None], list[int | None]],
    schedule: list[tuple[int, int]],
    local: bool,
    same: bool,
    grid: bool,
    kind: str,
) -> None:
    folder = tempfile.TemporaryDirectory() if local else None
    uri = folder.name if folder else f"memory://{uuid.uuid4().hex}"
    reader = TokenStore(uri)
    whole = np.arange(4 * WHOLE).reshape(4, WHOLE) if grid else np.arange(WHOLE)
    tokens = [whole, whole if same else whole + 100]  # the same: on the same kind of machine
    processes = [_Process(TokenStore(uri), mine, program, kind) for mine, program in zip(tokens, programs, strict=True)]
    sealed = None
    try:
        for number, fate in schedule:
            process = processes[number]
            if process.alive:
                process.kill() if fate == 0 else process.step()
                event("killed" if fate == 0 else "went on")
                sealed = _check(reader, tokens, sealed, kind)
        for process in processes:  # those that live go on to their end
            while process.alive:
                process.step()
                sealed = _check(reader, tokens, sealed, kind)
    finally:
        for process in processes:
            if process.alive:
                process.kill()
    reader.seal(KEY, tokens[0], first=0, causes={})  # the same command, run again
    sealed = _check(reader, tokens, sealed, kind)
    assert sealed is not None
    assert reader.read_partial(KEY) is None
    assert list(reader._objects.sizes("windows")) == [f"windows/{KEY[:2]}/{KEY}.safetensors"]
    if folder:
        folder.cleanup()
