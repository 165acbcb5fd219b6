"""Partials that an ended process left in its spool: which of two is further, that one or the store's."""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.store.config import SpoolConfig
from jukebox_core.store.spool_adoption import SpoolFolders, spool_folder
from jukebox_core.store.spooled import SpooledStore
from jukebox_core.store.store import TokenStore
from tests.helpers.spools import KEY, KEYS, TOKENS

if TYPE_CHECKING:
    from pathlib import Path

GRID = np.arange(12).reshape(3, 4)


@pytest.fixture
def uri() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def left(uri: str, tmp_path: Path) -> TokenStore:
    """The folder of a process that has ended, as a store."""
    return TokenStore(spool_folder(uri, str(tmp_path)) / "1-dead")


def _adopt(uri: str, folder: Path) -> TokenStore:
    """Returns the store after it has adopted and delivered the files of the ended process."""
    store = SpooledStore(uri, spool=SpoolConfig(folder=str(folder), patience_seconds=300.0))
    store.probe()
    assert [*folder.rglob("*.safetensors")] == []
    store._spool.close()
    return TokenStore(uri)


def _age(store: TokenStore, key: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(f"{store.uri}/windows/{key[:2]}/{key}.part.safetensors", (then, then))


def test_states_grids_and_sealed_grids_are_delivered(uri: str, left: TokenStore, tmp_path: Path) -> None:
    left.write_partial(KEYS[0], None, first=3, causes={"a": 1}, state=b"pass 2")
    left.write_partial(KEYS[1], GRID, first=0, causes={}, state=b"pass 3")
    left.seal(KEYS[2], GRID, first=0, causes={})
    store = _adopt(uri, tmp_path)
    first, second = store.read_partial(KEYS[0]), store.read_partial(KEYS[1])
    assert first is not None
    assert second is not None
    assert (first.state, first.first, first.causes, first.tokens.size) == (b"pass 2", 3, {"a": 1}, 0)
    assert (second.state, second.tokens.tolist()) == (b"pass 3", GRID.tolist())
    assert store.read(KEYS[2]).tokens.tolist() == GRID.tolist()


@pytest.mark.parametrize(("age", "kept"), [(0.0, b"left"), (3600.0, b"theirs")])
def test_of_two_states_the_one_stored_later_is_kept(
    uri: str, left: TokenStore, tmp_path: Path, age: float, kept: bytes
) -> None:
    TokenStore(uri).write_partial(KEY, GRID, first=0, causes={}, state=b"theirs")
    time.sleep(0.02)
    left.write_partial(KEY, None, first=0, causes={}, state=b"left")
    if age:
        _age(left, KEY, age)
    found = _adopt(uri, tmp_path).read_partial(KEY)
    assert found is not None
    assert found.state == kept


@pytest.mark.parametrize(("length", "kept"), [(200, 250), (300, 300)])
def test_of_two_prefixes_the_longer_is_kept_whenever_it_was_stored(
    uri: str, left: TokenStore, tmp_path: Path, length: int, kept: int
) -> None:
    TokenStore(uri).write_partial(KEY, TOKENS[:length], first=0, causes={})
    left.write_partial(KEY, TOKENS[:250], first=0, causes={})
    found = _adopt(uri, tmp_path).read_partial(KEY)
    assert found is not None
    assert len(found.tokens) == kept


def test_a_state_is_not_stored_beside_a_sealed_window(uri: str, left: TokenStore, tmp_path: Path) -> None:
    TokenStore(uri).seal(KEY, GRID, first=0, causes={})
    left.write_partial(KEY, None, first=0, causes={}, state=b"left")
    store = _adopt(uri, tmp_path)
    assert store.read_partial(KEY) is None
    assert store.sealed(KEY)


def test_a_folder_is_abandoned_when_its_process_has_released_it(tmp_path: Path) -> None:
    first, second = SpoolFolders(tmp_path), SpoolFolders(tmp_path)
    first.own().write_partial(KEY, None, first=0, causes={}, state=b"state")
    assert first.others() == []
    (folder,) = second.others()
    assert second.pending_elsewhere() == 1
    with second.abandoned(folder) as abandoned:
        assert not abandoned
    first.release()
    with second.abandoned(folder) as abandoned:
        assert abandoned
        assert second.move_to_own(folder) == {KEY: False}
    assert second.others() == []
    with second.abandoned(folder) as abandoned:
        assert not abandoned
    assert second.own().partials() == [KEY]
    second.release()
