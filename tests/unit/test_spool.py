"""A remote store that fails: passing failures, a store that goes away in the middle, and what is kept until it returns.

S3 is a real server in a process of its own, behind a gate that misbehaves.
"""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from servers import Gate, S3Server, gate_before

from jukebox_core.errors import StoreError, UnreachableError
from jukebox_core.tokens.config import RetryConfig, SpoolConfig
from jukebox_core.tokens.keys import digest
from jukebox_core.tokens.spool import spool_folder
from jukebox_core.tokens.spooled import SpooledStore, open_store
from jukebox_core.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = [digest(index) for index in range(40)]
KEY = KEYS[0]
TOKENS = np.arange(300, dtype=np.int32)
HASTY = {"config_kwargs": {"connect_timeout": 1, "read_timeout": 1, "retries": {"total_max_attempts": 1}}}
QUICK = RetryConfig(attempts=4, first_seconds=0.02)


@pytest.fixture(scope="module")
def server(s3_told: S3Server) -> S3Server:
    return s3_told


@pytest.fixture(scope="module")
def gate(server: S3Server) -> Iterator[Gate]:
    with gate_before(server.url) as gate:
        yield gate


@pytest.fixture
def uri(gate: Gate) -> Iterator[str]:
    gate.mode, gate.times = "pass", 10**9
    yield f"s3://store/{uuid.uuid4().hex}"
    gate.mode = "pass"


def _options(gate: Gate) -> dict[str, Any]:
    return {"endpoint_url": gate.url, **HASTY}


def _spooled(gate: Gate, uri: str, folder: Path, **limits: float) -> SpooledStore:
    config = SpoolConfig(folder=str(folder), **{"patience_seconds": 1.0, **limits})
    store = open_store(uri, options=_options(gate), retry=QUICK, spool=config)
    assert isinstance(store, SpooledStore)
    return store


def _waiting(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.safetensors"))


def _seal_all(store: TokenStore) -> None:
    for key in KEYS:
        store.seal(key, TOKENS, first=0, causes={})


# Failures that pass, and failures that do not.


@pytest.mark.parametrize("mode", ["500", "503", "refuse", "lose", "cut", "502"])
def test_a_failure_that_passes_is_tried_again(gate: Gate, uri: str, mode: str) -> None:
    store = TokenStore(uri, options=_options(gate), retry=QUICK)
    for act in (
        lambda: store.write_partial(KEY, TOKENS[:9], first=0, causes={}),
        lambda: store.read_partial(KEY),
        lambda: store.seal(KEY, TOKENS, first=0, causes={}),
        lambda: store.read(KEY),
        lambda: store.sealed(KEY),
        store.keys,
    ):
        gate.mode, gate.times = mode, 2
        act()
    assert np.array_equal(TokenStore(uri).read(KEY).tokens, TOKENS)
    assert TokenStore(uri).read_partial(KEY) is None
    assert not any(name.startswith("damaged") for name in store._objects.sizes(""))


@pytest.mark.slow
def test_a_server_that_falls_silent_is_left_after_a_while(gate: Gate, uri: str) -> None:
    store = TokenStore(uri, options=_options(gate), retry=RetryConfig(attempts=2, first_seconds=0.02))
    gate.mode = "stall"
    with pytest.raises(UnreachableError, match="cannot be reached"):
        store.seal(KEY, TOKENS, first=0, causes={})
    gate.times = 1
    store.seal(KEY, TOKENS, first=0, causes={})


def test_what_cannot_get_better_is_not_tried_again(gate: Gate, uri: str) -> None:
    store = TokenStore(uri, options=_options(gate), retry=QUICK)
    gate.mode = "403"
    gate.requests.clear()
    with pytest.raises(StoreError, match=r"access to s3://.* was refused.*credentials") as refused:
        store.write_partial(KEY, TOKENS, first=0, causes={})
    assert not isinstance(refused.value, UnreachableError)
    assert len(gate.requests) == 1
    gate.mode = "pass"
    missing = TokenStore("s3://nowhere/x", options=_options(gate), retry=QUICK)
    gate.requests.clear()
    with pytest.raises(StoreError, match="create the bucket"):
        missing.seal(KEY, TOKENS, first=0, causes={})
    assert len(gate.requests) == 1


# A store that is there.


def test_a_write_is_in_the_store_when_it_returns(gate: Gate, uri: str, tmp_path: Path) -> None:
    store, elsewhere = _spooled(gate, uri, tmp_path, patience_seconds=20), TokenStore(uri)
    store.probe()
    store.write_partial(KEY, TOKENS[:7], first=3, causes={"a": 1})
    partial = elsewhere.read_partial(KEY)
    assert partial is not None
    assert (partial.tokens.tolist(), partial.first, partial.causes) == (TOKENS[:7].tolist(), 3, {"a": 1})
    with store.together():
        for key in KEYS[:20]:
            store.seal(key, TOKENS, first=3, causes={})
    assert elsewhere.keys() == sorted(KEYS[:20])
    assert elsewhere.partials() == []
    assert _waiting(tmp_path) == []
    assert store.missing(KEYS) == store.missing(KEYS[20:]) == set(KEYS[20:])
    store.remove(KEY)
    assert not store.sealed(KEY)
    store.settle()


def test_a_local_store_has_no_spool(tmp_path: Path) -> None:
    for uri in (str(tmp_path), f"file://{tmp_path}", "memory://x"):
        store = open_store(uri)
        assert type(store) is TokenStore
        store.settle()
        with store.together():
            store.seal(KEY, TOKENS, first=0, causes={})


# A store that goes away while a run goes on.


@pytest.mark.parametrize("mode", ["refuse", "500", pytest.param("stall", marks=pytest.mark.slow)])
def test_sampling_goes_on_while_the_store_is_away(
    gate: Gate, uri: str, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, elsewhere = _spooled(gate, uri, tmp_path), TokenStore(uri)
    for key in KEYS[:3]:
        store.seal(key, TOKENS, first=0, causes={"k": key})
    gate.mode = mode
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
        gate.mode = "pass"
        store.settle(30)
    assert elsewhere.keys() == store.keys() == sorted(KEYS[:30])
    assert elsewhere.partials() == [KEYS[30]]
    assert all(np.array_equal(elsewhere.read(key).tokens, TOKENS) for key in KEYS[:30])
    assert _waiting(tmp_path) == []
    said = [record.getMessage() for record in caplog.records if record.name == "jukebox.store"]
    assert [("sampling goes on" in line, "answers again" in line) for line in said] == [(True, False), (False, True)]
    store.seal(KEYS[31], TOKENS, first=1, causes={})
    assert elsewhere.sealed(KEYS[31])


@pytest.mark.slow
def test_a_slow_store_is_waited_for_once(gate: Gate, uri: str, tmp_path: Path) -> None:
    store = _spooled(gate, uri, tmp_path, patience_seconds=0.3)
    gate.mode, gate.delay = "slow", 0.8
    began = time.monotonic()
    for key in KEYS[:10]:
        store.seal(key, TOKENS, first=0, causes={})
    assert time.monotonic() - began < 2
    store.settle(60)
    assert TokenStore(uri).keys() == sorted(KEYS[:10])


def test_too_much_that_waits_ends_the_run_with_everything_kept(gate: Gate, uri: str, tmp_path: Path) -> None:
    store = _spooled(gate, uri, tmp_path, megabytes=0.02)
    gate.mode = "refuse"
    store.seal(KEYS[0], TOKENS, first=0, causes={})
    with pytest.raises(StoreError, match=rf"windows \(0.0 MB\) wait for {uri}.*kept in {tmp_path}.*same command"):
        _seal_all(store)
    kept = [key for key in KEYS if store.sealed(key)]
    assert len(kept) > 5
    with pytest.raises(StoreError, match="kept in"):
        store.write_partial(kept[-1], TOKENS, first=0, causes={})  # a last flush on the way out
    with pytest.raises(StoreError, match="kept in"):
        store.settle(0.2)
    gate.mode = "pass"
    store.settle(20)
    assert TokenStore(uri).keys() == sorted(kept)


def test_a_store_that_stays_away_ends_the_run(gate: Gate, uri: str, tmp_path: Path) -> None:
    store = _spooled(gate, uri, tmp_path, seconds=0.5)
    gate.mode = "refuse"
    store.seal(KEYS[0], TOKENS, first=0, causes={})
    time.sleep(0.6)
    with pytest.raises(StoreError, match=r"2 windows .* cannot be reached .* kept in"):
        store.seal(KEYS[1], TOKENS, first=0, causes={})
    gate.mode = "pass"
    store.settle(20)
    assert TokenStore(uri).keys() == sorted(KEYS[:2])


def test_a_store_that_refuses_ends_the_run_at_once(gate: Gate, uri: str, tmp_path: Path) -> None:
    store = _spooled(gate, uri, tmp_path, patience_seconds=20)
    gate.mode = "403"
    with pytest.raises(StoreError, match=r"access to .* was refused.* kept in"):
        store.seal(KEYS[0], TOKENS, first=0, causes={})
    gate.mode = "pass"  # credentials were renewed; a worker process lives on
    store.seal(KEYS[1], TOKENS, first=0, causes={})
    store.settle()
    assert TokenStore(uri).keys() == sorted(KEYS[:2])


_WRITER = """
import sys, numpy as np
from jukebox_core.tokens.config import SpoolConfig
from jukebox_core.tokens.keys import digest
from jukebox_core.tokens.spooled import open_store
uri, folder, start = sys.argv[1:]
store = open_store(uri, spool=SpoolConfig(folder=folder, patience_seconds=0.2))
tokens = np.arange(300)
for index in range(int(start), int(start) + 8):
    store.write_partial(digest(index), tokens[:100], first=0, causes={})
    store.seal(digest(index), tokens, first=0, causes={})
store.write_partial(digest(int(start) + 8), tokens[:100], first=0, causes={})
print("written", flush=True)
sys.stdin.read()
"""


def _writer(gate: Gate, uri: str, folder: Path, start: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, uri, str(folder), str(start)],
        env=os.environ | {"AWS_ENDPOINT_URL": gate.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _killed(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_the_next_process_delivers_what_killed_ones_left(
    gate: Gate, uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = TokenStore(uri)
    gate.mode = "refuse"
    writers = [_writer(gate, uri, tmp_path, start) for start in (0, 10)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"written\n"
        assert len(_waiting(tmp_path)) == 18
        store = _spooled(gate, uri, tmp_path)
        assert store.sealed(KEYS[17])  # by a process of this machine that lives
        assert np.array_equal(store.read(KEYS[3]).tokens, TOKENS)
        with pytest.raises(StoreError, match="cannot be reached"):
            store.probe()
    finally:
        for writer in writers:
            _killed(writer)
    assert len(_waiting(tmp_path)) == 18
    gate.mode = "pass"
    elsewhere.write_partial(KEYS[8], TOKENS[:200], first=0, causes={})  # another machine went on with it
    elsewhere.write_partial(KEYS[18], TOKENS[:50], first=0, causes={})
    elsewhere.seal(KEYS[0], TOKENS + 1, first=0, causes={})  # another kind of machine
    with caplog.at_level(logging.INFO, "jukebox"):
        store.probe()
    assert "delivering 18 windows" in caplog.text
    assert f"window {KEY[:12]} is sealed in {uri} with other tokens" in caplog.text
    assert _waiting(tmp_path) == []
    assert elsewhere.keys() == sorted(KEYS[:8] + KEYS[10:18])
    lengths = [len(found.tokens) for key in (KEYS[8], KEYS[18]) if (found := elsewhere.read_partial(key)) is not None]
    assert lengths == [200, 100]
    assert np.array_equal(store.read(KEY).tokens, TOKENS + 1)
    assert len(list(spool_folder(uri, str(tmp_path)).iterdir())) == 1  # this process's own


@pytest.mark.slow
def test_the_end_of_a_run_waits_for_other_processes_of_the_machine(gate: Gate, uri: str, tmp_path: Path) -> None:
    gate.mode = "refuse"
    writer = _writer(gate, uri, tmp_path, 0)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        store = _spooled(gate, uri, tmp_path)
        with pytest.raises(StoreError, match="9 windows of other processes of this machine wait"):
            store.settle(0.3)
        gate.mode = "pass"
        store.settle(30)
        assert TokenStore(uri).keys() == sorted(KEYS[:8])
    finally:
        _killed(writer)


def test_a_damaged_window_in_the_spool_is_not_delivered(
    gate: Gate, uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = _spooled(gate, uri, tmp_path)
    gate.mode = "refuse"
    for key in KEYS[:2]:
        store.seal(key, TOKENS, first=0, causes={})
    (path,) = tmp_path.rglob(f"{KEY}.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    gate.mode = "pass"
    store.settle(20)
    assert "is damaged" in caplog.text
    assert TokenStore(uri).keys() == [KEYS[1]]


def test_a_full_disk_here_does_not_stop_a_store_elsewhere(
    gate: Gate, uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    store = _spooled(gate, uri, tmp_path / "file")  # a folder that cannot be made
    store.write_partial(KEY, TOKENS[:5], first=0, causes={})
    store.seal(KEY, TOKENS, first=0, causes={})
    assert "directly" in caplog.text
    assert TokenStore(uri).keys() == [KEY]
    assert TokenStore(uri).partials() == []
    gate.mode = "refuse"
    with pytest.raises(StoreError):
        store.seal(KEYS[1], TOKENS, first=0, causes={})


# What the probe says.


def _probe(uri: str, environment: dict[str, str]) -> str:
    code = f"from jukebox_core.tokens.spooled import open_store; open_store({uri!r}).probe()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.stderr else ""


@pytest.mark.slow
def test_the_endpoint_may_be_in_the_environment_and_credentials_must_be(server: S3Server, tmp_path: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    plain |= {"HOME": str(tmp_path), "JUKEBOX_SPOOL": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    assert _probe("s3://store/x", plain | server.environment) == ""
    without = plain | {"AWS_ENDPOINT_URL": server.url}
    assert "no credentials for s3://store/x" in (message := _probe("s3://store/x", without))
    assert "AWS_PROFILE" in message
    assert "AWS_PROFILE" in _probe("s3://store/x", without | {"AWS_PROFILE": "nobody"})


@pytest.mark.slow
def test_a_server_that_checks_credentials_refuses_clearly(tmp_path: Path) -> None:
    server = S3Server(tmp_path / "log")
    try:
        server.make_bucket("store")
        server.ask("POST", "/moto-api/reset-auth", b"0")
        environment = os.environ | server.environment | {"JUKEBOX_SPOOL": str(tmp_path)}
        message = _probe("s3://store/x", environment)
        assert "access to s3://store/x was refused" in message
        assert "credentials" in message
    finally:
        server.stop()


def test_a_store_of_a_newer_layout_is_refused(gate: Gate, uri: str) -> None:
    store = TokenStore(uri, options=_options(gate))
    store.probe()
    store.probe()
    store._objects.replace("store.json", b'{"schema": 2}')
    with pytest.raises(StoreError, match=r"schema 2, and this version knows up to 1; update this program"):
        store.probe()
    store._objects.replace("store.json", b"nonsense")
    with pytest.raises(StoreError, match="choose another place"):
        store.probe()


_SAMPLER = """
import sys, numpy as np
from jukebox_core.errors import StoreError
from jukebox_core.tokens.config import RetryConfig, SpoolConfig
from jukebox_core.tokens.keys import digest
from jukebox_core.tokens.spooled import open_store
uri, folder = sys.argv[1:]
options = {"config_kwargs": {"connect_timeout": 1, "read_timeout": 1, "retries": {"total_max_attempts": 1}}}
store = open_store(uri, options=options, spool=SpoolConfig(folder=folder, patience_seconds=0.2))
print("started", flush=True)
for index in range(60):
    key, whole = digest(index), np.arange(2000) * index
    if store.sealed(key):
        continue
    found = store.read_partial(key)
    begin = 0 if found is None else len(found.tokens)
    assert found is None or found.tokens.tolist() == whole[:begin].tolist()
    for count in range(begin + 200, 2000, 200):
        store.write_partial(key, whole[:count], first=0, causes={"index": index})
        print(index, begin, count, flush=True)
    store.seal(key, whole, first=0, causes={"index": index})
store.settle(60)
print("finished", flush=True)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_while_its_store_fails(gate: Gate, uri: str, tmp_path: Path) -> None:
    """Windows are only ever whole or a prefix; what was stored is not sampled again; at the end, all is there."""
    chance, gate.delay, kills, resampled = random.Random(5), 0.3, 0, 0
    stored: dict[int, int] = {}
    command = [sys.executable, "-c", _SAMPLER, uri, str(tmp_path)]
    environment = os.environ | {"AWS_ENDPOINT_URL": gate.url}
    finished = False
    while not finished:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        timer = threading.Timer(chance.uniform(0.05, 1.5), process.kill)
        timer.start()
        gate.mode = chance.choice(["pass", "pass", "500", "503", "refuse", "slow", "lose", "cut", "stall"])
        gate.times = chance.choice([3, 10, 10**9]) if kills < 12 else 0
        if kills >= 12:
            timer.cancel()
        for line in process.stdout:
            if line == "finished\n":
                finished = True
                break
            if not line.endswith("\n"):
                break  # killed while it said so
            index, begin, count = map(int, line.split())
            if index in stored and begin < stored[index] and count == begin + 200:
                resampled += 1
            stored[index] = max(stored.get(index, 0), count)
        timer.cancel()
        gate.mode = "pass"
        _, trouble = process.communicate()
        assert process.returncode in (0, -9), trouble
        kills += not finished
        _whole_or_a_prefix(TokenStore(uri))
    assert TokenStore(uri).keys() == sorted(digest(index) for index in range(60))
    assert TokenStore(uri).partials() == []
    assert _waiting(tmp_path) == []
    assert resampled == 0
    print(f"{kills} kills, {resampled} stores lost")


def _whole_or_a_prefix(store: TokenStore) -> None:
    assert store._objects.sizes("damaged") == {}
    for key, number in {digest(index): index for index in range(60)}.items():
        for found in (store.find(key), store.read_partial(key)):
            if found is not None:
                assert found.tokens.tolist() == (np.arange(len(found.tokens)) * number).tolist()
