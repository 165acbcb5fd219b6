"""A remote store that fails: transient failures, an outage during a run, and files kept until its end.

S3 is a real server in a process of its own, behind a gate that misbehaves.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.errors import StoreError, UnreachableError
from jukebox_core.store.config import RetryConfig
from jukebox_core.store.spooled import open_store
from jukebox_core.store.store import TokenStore
from tests.helpers.spools import KEY, KEYS, QUICK, TOKENS, options, pending_files, spooled

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.servers.servers import Gate


# Transient failures.


@pytest.mark.parametrize("mode", ["500", "503", "refuse", "lose", "cut", "502"])
def test_a_transient_failure_is_retried(s3_gate: Gate, gated_uri: str, mode: str) -> None:
    store = TokenStore(gated_uri, options=options(s3_gate), retry=QUICK)
    for act in (
        lambda: store.write_partial(KEY, TOKENS[:9], first=0, causes={}),
        lambda: store.read_partial(KEY),
        lambda: store.seal(KEY, TOKENS, first=0, causes={}),
        lambda: store.read(KEY),
        lambda: store.sealed(KEY),
        store.keys,
    ):
        s3_gate.mode, s3_gate.times = mode, 2
        act()
    assert np.array_equal(TokenStore(gated_uri).read(KEY).tokens, TOKENS)
    assert TokenStore(gated_uri).read_partial(KEY) is None
    assert not any(name.startswith("damaged") for name in store._objects.sizes(""))


@pytest.mark.slow
def test_a_server_that_does_not_answer_times_out(s3_gate: Gate, gated_uri: str) -> None:
    store = TokenStore(gated_uri, options=options(s3_gate), retry=RetryConfig(attempts=2, first_seconds=0.02))
    s3_gate.mode = "stall"
    with pytest.raises(UnreachableError, match="cannot be reached"):
        store.seal(KEY, TOKENS, first=0, causes={})
    s3_gate.times = 1
    store.seal(KEY, TOKENS, first=0, causes={})


# A healthy store.


def test_a_write_is_in_the_store_when_it_returns(s3_gate: Gate, gated_uri: str, tmp_path: Path) -> None:
    store, elsewhere = spooled(s3_gate, gated_uri, tmp_path, patience_seconds=20), TokenStore(gated_uri)
    store.probe()
    store.write_partial(KEY, TOKENS[:7], first=3, causes={"a": 1})
    partial = elsewhere.read_partial(KEY)
    assert partial is not None
    assert (partial.tokens.tolist(), partial.first, partial.causes) == (TOKENS[:7].tolist(), 3, {"a": 1})
    with store.parallel_writes():
        for key in KEYS[:20]:
            store.seal(key, TOKENS, first=3, causes={})
    assert elsewhere.keys() == sorted(KEYS[:20])
    assert elsewhere.partials() == []
    assert pending_files(tmp_path) == []
    assert store.missing(KEYS) == store.missing(KEYS[20:]) == set(KEYS[20:])
    store.remove(KEY)
    assert not store.sealed(KEY)
    store.flush()


def test_a_local_store_has_no_spool(tmp_path: Path) -> None:
    for uri in (str(tmp_path), f"file://{tmp_path}", "memory://x"):
        store = open_store(uri)
        assert type(store) is TokenStore
        store.flush()
        with store.parallel_writes():
            store.seal(KEY, TOKENS, first=0, causes={})


# An outage during a run.


@pytest.mark.parametrize("mode", ["refuse", "500", pytest.param("stall", marks=pytest.mark.slow)])
def test_sampling_goes_on_during_an_outage(
    s3_gate: Gate, gated_uri: str, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, elsewhere = spooled(s3_gate, gated_uri, tmp_path), TokenStore(gated_uri)
    for key in KEYS[:3]:
        store.seal(key, TOKENS, first=0, causes={"k": key})
    s3_gate.mode = mode
    with caplog.at_level(logging.INFO, "jukebox"):
        began = time.monotonic()
        for number, key in enumerate(KEYS[3:30], 3):
            assert not store.sealed(key)
            assert store.read_partial(key) is None
            assert np.array_equal(store.read(KEYS[number - 2]).tokens, TOKENS)  # delivered before, or not yet
            store.write_partial(key, TOKENS[:50], first=1, causes={})
            found = store.read_partial(key)
            assert found is not None
            assert len(found.tokens) == 50
            store.seal(key, TOKENS, first=1, causes={})
            assert store.sealed(key)
            assert store.missing([key]) == set()
        store.write_partial(KEYS[30], TOKENS[:5], first=1, causes={})
        assert time.monotonic() - began < 10  # not: waits added up
        with pytest.raises(UnreachableError):
            store.read(KEYS[35])
        with pytest.raises(UnreachableError):
            store.keys()
        assert elsewhere.keys() == sorted(KEYS[:3])
        s3_gate.mode = "pass"
        store.flush(30)
    assert elsewhere.keys() == store.keys() == sorted(KEYS[:30])
    assert elsewhere.partials() == [KEYS[30]]
    assert all(np.array_equal(elsewhere.read(key).tokens, TOKENS) for key in KEYS[:30])
    assert pending_files(tmp_path) == []
    said = [record.getMessage() for record in caplog.records if record.name == "jukebox.store"]
    assert [("sampling goes on" in line, "answers again" in line) for line in said] == [(True, False), (False, True)]
    store.seal(KEYS[31], TOKENS, first=1, causes={})
    assert elsewhere.sealed(KEYS[31])


@pytest.mark.slow
def test_a_slow_store_is_waited_for_once(s3_gate: Gate, gated_uri: str, tmp_path: Path) -> None:
    store = spooled(s3_gate, gated_uri, tmp_path, patience_seconds=0.3)
    s3_gate.mode, s3_gate.delay = "slow", 0.8
    began = time.monotonic()
    for key in KEYS[:10]:
        store.seal(key, TOKENS, first=0, causes={})
    assert time.monotonic() - began < 2
    store.flush(60)
    assert TokenStore(gated_uri).keys() == sorted(KEYS[:10])


def _seal_all(store: TokenStore) -> None:
    for key in KEYS:
        store.seal(key, TOKENS, first=0, causes={})


def test_too_many_pending_bytes_end_the_run_with_everything_kept(s3_gate: Gate, gated_uri: str, tmp_path: Path) -> None:
    store = spooled(s3_gate, gated_uri, tmp_path, megabytes=0.02)
    s3_gate.mode = "refuse"
    store.seal(KEYS[0], TOKENS, first=0, causes={})
    with pytest.raises(
        StoreError, match=rf"windows \(\d+\.\d kB\) wait for {gated_uri}.*kept in {tmp_path}.*same command"
    ):
        _seal_all(store)
    kept = [key for key in KEYS if store.sealed(key)]
    assert len(kept) > 5
    with pytest.raises(StoreError, match="kept in"):
        store.write_partial(kept[-1], TOKENS, first=0, causes={})  # a last flush on the way out
    with pytest.raises(StoreError, match="kept in"):
        store.flush(0.2)
    s3_gate.mode = "pass"
    store.flush(20)
    assert TokenStore(gated_uri).keys() == sorted(kept)


def test_a_long_outage_ends_the_run(s3_gate: Gate, gated_uri: str, tmp_path: Path) -> None:
    store = spooled(s3_gate, gated_uri, tmp_path, seconds=0.5)
    s3_gate.mode = "refuse"
    store.seal(KEYS[0], TOKENS, first=0, causes={})
    time.sleep(0.6)
    with pytest.raises(StoreError, match=r"2 windows .* cannot be reached .* kept in"):
        store.seal(KEYS[1], TOKENS, first=0, causes={})
    s3_gate.mode = "pass"
    store.flush(20)
    assert TokenStore(gated_uri).keys() == sorted(KEYS[:2])


def test_a_store_that_refuses_ends_the_run_at_once(s3_gate: Gate, gated_uri: str, tmp_path: Path) -> None:
    store = spooled(s3_gate, gated_uri, tmp_path, patience_seconds=20)
    s3_gate.mode = "403"
    with pytest.raises(StoreError, match=r"access to .* was refused.* kept in"):
        store.seal(KEYS[0], TOKENS, first=0, causes={})
    s3_gate.mode = "pass"  # credentials were renewed; a worker process lives on
    store.seal(KEYS[1], TOKENS, first=0, causes={})
    store.flush()
    assert TokenStore(gated_uri).keys() == sorted(KEYS[:2])


def test_a_damaged_window_in_the_spool_is_not_delivered(
    s3_gate: Gate, gated_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = spooled(s3_gate, gated_uri, tmp_path)
    s3_gate.mode = "refuse"
    for key in KEYS[:2]:
        store.seal(key, TOKENS, first=0, causes={})
    (path,) = tmp_path.rglob(f"{KEY}.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    s3_gate.mode = "pass"
    store.flush(20)
    assert "is damaged" in caplog.text
    assert TokenStore(gated_uri).keys() == [KEYS[1]]


def test_a_full_disk_here_does_not_stop_a_store_elsewhere(
    s3_gate: Gate, gated_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    store = spooled(s3_gate, gated_uri, tmp_path / "file")  # a folder that cannot be made
    store.write_partial(KEY, TOKENS[:5], first=0, causes={})
    store.seal(KEY, TOKENS, first=0, causes={})
    assert "directly" in caplog.text
    assert TokenStore(gated_uri).keys() == [KEY]
    assert TokenStore(gated_uri).partials() == []
    s3_gate.mode = "refuse"
    with pytest.raises(StoreError):
        store.seal(KEYS[1], TOKENS, first=0, causes={})
