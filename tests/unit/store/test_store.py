"""The token store on local disk, in memory and on S3 (a server on loopback): atomic objects, checked when read."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jukebox_core.base.hashing import digest, digest_bytes
from jukebox_core.errors import DamagedError, StoreError
from jukebox_core.store import store as store_module
from jukebox_core.store.store import TokenStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.servers.servers import S3Server

KEY, OTHER = digest("one"), digest("other")
CAUSES = {"level": 2, "seed": 7, "parents": [OTHER], "weights": "ab", "temperature": 0.99}
TOKENS = np.arange(300, dtype=np.int32) * 7 % 2048


@pytest.fixture
def s3(s3_configured: S3Server) -> dict[str, Any]:
    """Options of an S3 server on loopback that has the bucket ``store``."""
    return {"client_kwargs": {"endpoint_url": s3_configured.url}}


@pytest.fixture(params=["local", "file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> TokenStore:
    """An empty store of each kind."""
    if request.param == "s3":
        return TokenStore(f"s3://store/{uuid.uuid4().hex}", options=request.getfixturevalue("s3"))
    uris = {"local": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{uuid.uuid4().hex}"}
    return TokenStore(uris[request.param])


def _damage(store: TokenStore, name: str, data: bytes) -> None:
    store._objects.replace(name, data)


def _names(store: TokenStore) -> list[str]:
    return [name for folder in ("windows", "damaged", "tmp") for name in store._objects.sizes(folder)]


def _name(key: str, part: str = "") -> str:
    return f"windows/{key[:2]}/{key}{part}.safetensors"


# Any store.


def test_a_window_from_first_flush_to_seal(store: TokenStore) -> None:
    store.probe()
    assert not store.sealed(KEY)
    assert store.read_partial(KEY) is None
    for count in (10, 200):
        store.write_partial(KEY, TOKENS[:count] - 79, first=64, causes=CAUSES)
        partial = store.read_partial(KEY)
        assert partial is not None
        assert np.array_equal(partial.tokens, TOKENS[:count] - 79)
        assert (partial.first, partial.causes) == (64, CAUSES)
    assert not store.sealed(KEY)
    assert store.keys() == []
    store.seal(KEY, TOKENS, first=64, causes=CAUSES)
    assert store.sealed(KEY)
    assert store.read_partial(KEY) is None
    assert store.keys() == [KEY]
    found = store.read(KEY)
    assert np.array_equal(found.tokens, TOKENS)
    assert found.tokens.dtype == np.int32
    assert found.tokens.flags.writeable  # torch warns about arrays that are not
    assert (found.first, found.causes) == (64, CAUSES)
    assert found.digest == digest_bytes(TOKENS.tobytes())
    assert _names(store) == [_name(KEY)]


def test_the_second_seal_of_a_window_changes_nothing(store: TokenStore, caplog: pytest.LogCaptureFixture) -> None:
    store.seal(KEY, TOKENS, first=0, causes=CAUSES)
    store.write_partial(KEY, TOKENS[:5], first=0, causes=CAUSES)
    with caplog.at_level(logging.WARNING, logger="jukebox"):
        store.seal(KEY, TOKENS.tolist(), first=0, causes=CAUSES)
        assert "is sealed in" not in caplog.text
        assert store.read_partial(KEY) is None
        for count, (tokens, first) in enumerate([(TOKENS + 1, 0), (TOKENS[:-1], 0), (TOKENS, 1)], start=1):
            store.seal(KEY, tokens, first=first, causes=CAUSES)
            assert caplog.text.count("is sealed in") == caplog.text.count("with other tokens") == count
    assert np.array_equal(store.read(KEY).tokens, TOKENS)
    assert store.read(KEY).first == 0


def test_few_and_many_keys_give_the_same_missing_ones(store: TokenStore) -> None:
    keys = [digest(index) for index in range(50)]
    for key in keys[::5]:
        store.seal(key, TOKENS[:3], first=0, causes={})
    store.write_partial(keys[1], TOKENS[:3], first=0, causes={})
    for count in (0, 7, 50):
        assert store.missing(keys[:count]) == set(keys[:count]) - set(keys[::5])


def test_windows_are_listed_with_sizes_and_removed(store: TokenStore) -> None:
    keys = sorted(digest(index) for index in range(40))
    for key in keys[:38]:
        store.seal(key, TOKENS[:3], first=0, causes={})
    for key in keys[38:]:
        store.write_partial(key, TOKENS, first=0, causes={})
    assert (store.keys(), store.partials()) == (keys[:38], keys[38:])
    sealed, partial = store.sizes()
    assert (list(sealed), list(partial)) == (keys[:38], keys[38:])
    assert store.size(keys[0]) == sealed[keys[0]] > 12
    assert store.size(keys[39]) == partial[keys[39]] > 1200
    assert store.size(KEY) == 0
    store.remove(keys[0], keys[39], KEY)
    assert (store.keys(), store.partials()) == (keys[1:38], [keys[38]])
    store.remove(*keys)
    assert _names(store) == []
    store.remove(*keys)
    store.remove()


def test_a_damaged_window_is_set_aside_and_can_be_sealed_again(store: TokenStore) -> None:
    store.seal(KEY, TOKENS, first=0, causes=CAUSES)
    _damage(store, _name(KEY), b"not at all")
    with pytest.raises(DamagedError, match=rf"{KEY}.*moved to damaged/"):
        store.read(KEY)
    assert not store.sealed(KEY)
    with pytest.raises(StoreError, match="run the command again") as missing:
        store.read(KEY)
    assert not isinstance(missing.value, DamagedError)
    (aside,) = _names(store)
    assert aside.startswith(f"damaged/{KEY}.safetensors.")
    store.seal(KEY, TOKENS, first=0, causes=CAUSES)
    assert np.array_equal(store.read(KEY).tokens, TOKENS)


def test_sealing_over_a_damaged_window_sets_it_aside(store: TokenStore, caplog: pytest.LogCaptureFixture) -> None:
    _damage(store, _name(KEY), b"")
    with caplog.at_level(logging.WARNING):
        store.seal(KEY, TOKENS, first=0, causes=CAUSES)
    assert "is damaged" in caplog.text
    assert np.array_equal(store.read(KEY).tokens, TOKENS)


def test_a_damaged_partial_counts_as_none(store: TokenStore, caplog: pytest.LogCaptureFixture) -> None:
    store.write_partial(KEY, TOKENS, first=0, causes=CAUSES)
    _damage(store, _name(KEY, ".part"), b"\0" * 100)
    with caplog.at_level(logging.WARNING):
        assert store.read_partial(KEY) is None
    assert f"{KEY}.part.safetensors" in caplog.text
    assert [name.rpartition(".")[0] for name in _names(store)] == [f"damaged/{KEY}.part.safetensors"]
    store.write_partial(KEY, TOKENS, first=0, causes=CAUSES)
    assert store.read_partial(KEY) is not None


def test_keys_lists_sealed_windows_only(store: TokenStore) -> None:
    wanted = sorted(digest(index) for index in range(5))
    for key in wanted:
        store.seal(key, TOKENS[:3], first=0, causes={})
    store.write_partial(KEY, TOKENS, first=0, causes=CAUSES)
    _damage(store, "windows/notes.txt", b"a stray file")
    assert store.keys() == wanted


def test_a_write_of_another_client_is_seen_at_once(store: TokenStore, request: pytest.FixtureRequest) -> None:
    """A cached listing or instance would answer from before."""
    on_s3 = store.uri.startswith("s3")
    options = {**request.getfixturevalue("s3"), "default_block_size": 6 * 2**20} if on_s3 else None
    writer = TokenStore(store.uri, options=options)
    assert store.keys() == []
    assert not store.sealed(KEY)
    writer.seal(KEY, TOKENS, first=0, causes=CAUSES)
    assert store.sealed(KEY)
    assert store.keys() == [KEY]
    assert np.array_equal(store.read(KEY).tokens, TOKENS)
    _damage(writer, _name(KEY), b"damaged meanwhile")
    with pytest.raises(DamagedError):
        store.read(KEY)
    assert not writer.sealed(KEY)


# Windows of other shapes, and states.


@pytest.fixture
def memory() -> TokenStore:
    return TokenStore(f"memory://{uuid.uuid4().hex}")


def _sealed_bytes(store: TokenStore, tokens: np.ndarray = TOKENS) -> bytes:
    store.seal(KEY, tokens, first=64, causes=CAUSES)
    data = store._objects.read(_name(KEY))
    assert data is not None
    return data


ARRAYS = [
    np.arange(12, dtype=np.int32).reshape(4, 3),
    np.arange(12, dtype=np.int64).reshape(3, 4) << 40,
    np.arange(7, dtype=np.uint8),
    np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4),
    np.array([np.nan, np.inf], np.float32),
    np.zeros((9, 0), np.int32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{list(array.shape)}")
def test_grids_events_and_arrays_are_stored_as_they_are(store: TokenStore, array: np.ndarray, caplog: Any) -> None:
    store.write_partial(KEY, array, first=5, causes=CAUSES)
    partial = store.read_partial(KEY)
    store.seal(KEY, np.asfortranarray(array), first=5, causes=CAUSES)
    store.seal(KEY, array, first=5, causes=CAUSES)
    assert "is sealed in" not in caplog.text
    for found in (partial, store.read(KEY)):
        assert found is not None
        assert (found.tokens.dtype, found.tokens.shape, found.first) == (array.dtype, array.shape, 5)
        assert found.tokens.tobytes() == array.tobytes()
        assert found.tokens.flags.writeable
        assert (found.digest, found.state) == (digest_bytes(array.tobytes()), None)
    store.seal(KEY, array[..., None], first=5, causes=CAUSES)
    assert "with other tokens" in caplog.text


@pytest.mark.parametrize("tokens", [None, TOKENS[:7] - 79, ARRAYS[0]], ids=["none", "prefix", "grid"])
def test_a_partial_may_hold_an_opaque_state(store: TokenStore, tokens: np.ndarray | None) -> None:
    for state in (b"", b"pass 3", bytes(range(256)) * 300):
        store.write_partial(KEY, tokens, first=3, causes=CAUSES, state=state)
        found = store.read_partial(KEY)
        assert found is not None
        assert (found.state, found.first, found.causes) == (state, 3, CAUSES)
        assert np.array_equal(found.tokens, np.empty(0, np.int32) if tokens is None else tokens)
    assert store.partials() == [KEY]
    assert store.size(KEY) == store.sizes()[1][KEY] > 256 * 300
    age = store.partial_age(KEY)
    assert age is not None
    assert age < 60
    assert store.partial_age(OTHER) is None
    store.seal(KEY, TOKENS, first=3, causes=CAUSES)
    assert store.read(KEY).state is store.read_partial(KEY) is None
    store.write_partial(KEY, None, first=3, causes=CAUSES, state=b"late")
    store.remove(KEY)
    assert _names(store) == []


@pytest.mark.parametrize("key", ["", "ab", "../" + KEY, KEY.upper(), KEY + "0", "g" * 64])
def test_a_key_that_is_not_a_digest_is_refused(memory: TokenStore, key: str) -> None:
    with pytest.raises(StoreError, match="64 lower-case"):
        memory.sealed(key)


# Where the place fails, or another process is faster.


def test_probe_names_a_missing_bucket(s3: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match=r"s3://nowhere/x is not there.*create the bucket"):
        TokenStore("s3://nowhere/x", options=s3).probe()


@pytest.mark.slow
def test_probe_names_an_unreachable_server(s3: dict[str, Any]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        options = {
            "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{unused.getsockname()[1]}"},
            "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 2},
        }
        with pytest.raises(StoreError, match=r"s3://store/x cannot be reached.*check the address and the network"):
            TokenStore("s3://store/x", options=options).probe()


def test_probe_notices_a_place_that_returns_other_bytes(memory: TokenStore, monkeypatch: Any) -> None:
    monkeypatch.setattr(memory._objects, "read", lambda name: b"something else")
    with pytest.raises(StoreError, match="did not give back"):
        memory.probe()
    assert _names(memory) == []


def test_a_reader_that_finds_damage_leaves_a_good_replacement_alone(
    memory: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the read and the setting aside, another process may have sealed the window again."""
    good = _sealed_bytes(memory)
    _damage(memory, _name(KEY), b"bad")
    decode = store_module.decode

    def decode_late(data: bytes, key: str, where: str) -> store_module.Stored:
        _damage(memory, _name(KEY), good)
        return decode(data, key, where)

    monkeypatch.setattr(store_module, "decode", decode_late)
    with pytest.raises(DamagedError):
        memory.read(KEY)
    assert np.array_equal(memory.read(KEY).tokens, TOKENS)


def test_the_store_imports_no_torch() -> None:
    code = "import sys, jukebox_core.store.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_several_windows_are_written_in_parallel(store: TokenStore) -> None:
    keys = sorted(digest(index) for index in range(20))
    with store.parallel_writes():
        for key in keys:
            store.write_partial(key, TOKENS[:5], first=0, causes={})
    assert store.partials() == keys
    with store.parallel_writes():
        for key in keys:
            store.seal(key, TOKENS, first=0, causes={})
    assert (store.keys(), store.partials()) == (keys, [])
    with pytest.raises(ValueError, match="tokens"), store.parallel_writes():  # noqa: PT012 - the block is what is tested
        store.seal(KEY, [0.5], first=0, causes={})
        store.seal(OTHER, TOKENS, first=0, causes={})
    assert store.sealed(OTHER)
    store.seal(KEY, TOKENS, first=0, causes={})  # alone again
    assert store.sealed(KEY)
