"""Processes that are killed while their store fails: the next one delivers their files, once."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.base.hashing import digest
from jukebox_core.errors import StoreError
from jukebox_core.store.spool_adoption import spool_folder
from jukebox_core.store.store import TokenStore
from tests.helpers.spools import KEY, KEYS, TOKENS, pending_files, spooled

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.servers.servers import Gate

pytestmark = pytest.mark.slow

_WRITER = """
import sys, numpy as np
from jukebox_core.store.config import SpoolConfig
from jukebox_core.base.hashing import digest
from jukebox_core.store.spooled import open_store
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


def test_the_next_process_delivers_what_killed_ones_left(
    s3_gate: Gate, gated_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = TokenStore(gated_uri)
    s3_gate.mode = "refuse"
    writers = [_writer(s3_gate, gated_uri, tmp_path, start) for start in (0, 10)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"written\n"
        assert len(pending_files(tmp_path)) == 18
        store = spooled(s3_gate, gated_uri, tmp_path)
        assert store.sealed(KEYS[17])  # by a process of this machine that lives
        assert np.array_equal(store.read(KEYS[3]).tokens, TOKENS)
        with pytest.raises(StoreError, match="cannot be reached"):
            store.probe()
    finally:
        for writer in writers:
            _killed(writer)
    assert len(pending_files(tmp_path)) == 18
    s3_gate.mode = "pass"
    elsewhere.write_partial(KEYS[8], TOKENS[:200], first=0, causes={})  # another machine resumed it
    elsewhere.write_partial(KEYS[18], TOKENS[:50], first=0, causes={})
    elsewhere.seal(KEYS[0], TOKENS + 1, first=0, causes={})  # another kind of machine
    with caplog.at_level(logging.INFO, "jukebox"):
        store.probe()
    assert "delivering 18 windows" in caplog.text
    assert f"window {KEY[:12]} is sealed in {gated_uri} with other tokens" in caplog.text
    assert pending_files(tmp_path) == []
    assert elsewhere.keys() == sorted(KEYS[:8] + KEYS[10:18])
    lengths = [len(found.tokens) for key in (KEYS[8], KEYS[18]) if (found := elsewhere.read_partial(key)) is not None]
    assert lengths == [200, 100]
    assert np.array_equal(store.read(KEY).tokens, TOKENS + 1)
    assert len(list(spool_folder(gated_uri, str(tmp_path)).iterdir())) == 1  # this process's own


def test_the_end_of_a_run_waits_for_other_processes_of_the_machine(
    s3_gate: Gate, gated_uri: str, tmp_path: Path
) -> None:
    s3_gate.mode = "refuse"
    writer = _writer(s3_gate, gated_uri, tmp_path, 0)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        store = spooled(s3_gate, gated_uri, tmp_path)
        with pytest.raises(StoreError, match="9 windows of other processes of this machine wait"):
            store.flush(0.3)
        s3_gate.mode = "pass"
        store.flush(30)
        assert TokenStore(gated_uri).keys() == sorted(KEYS[:8])
    finally:
        _killed(writer)


_SAMPLER = """
import sys, numpy as np
from jukebox_core.errors import StoreError
from jukebox_core.store.config import RetryConfig, SpoolConfig
from jukebox_core.base.hashing import digest
from jukebox_core.store.spooled import open_store
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
store.flush(60)
print("finished", flush=True)
"""


@pytest.mark.endurance
def test_a_run_that_is_killed_again_and_again_while_its_store_fails(
    s3_gate: Gate, gated_uri: str, tmp_path: Path
) -> None:
    """Windows are sealed or a prefix; stored tokens are not sampled again; at the end, all windows are sealed."""
    chance, s3_gate.delay, kills, resampled = random.Random(5), 0.3, 0, 0
    stored: dict[int, int] = {}
    command = [sys.executable, "-c", _SAMPLER, gated_uri, str(tmp_path)]
    environment = os.environ | {"AWS_ENDPOINT_URL": s3_gate.url}
    finished = False
    while not finished:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        timer = threading.Timer(chance.uniform(0.05, 1.5), process.kill)
        timer.start()
        s3_gate.mode = chance.choice(["pass", "pass", "500", "503", "refuse", "slow", "lose", "cut", "stall"])
        s3_gate.times = chance.choice([3, 10, 10**9]) if kills < 12 else 0
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
        s3_gate.mode = "pass"
        _, trouble = process.communicate()
        assert process.returncode in (0, -9), trouble
        kills += not finished
        _check_sealed_or_prefix(TokenStore(gated_uri))
    assert TokenStore(gated_uri).keys() == sorted(digest(index) for index in range(60))
    assert TokenStore(gated_uri).partials() == []
    assert pending_files(tmp_path) == []
    assert resampled == 0
    print(f"{kills} kills, {resampled} stores lost")


def _check_sealed_or_prefix(store: TokenStore) -> None:
    assert store._objects.sizes("damaged") == {}
    for key, number in {digest(index): index for index in range(60)}.items():
        for found in (store.find(key), store.read_partial(key)):
            if found is not None:
                assert found.tokens.tolist() == (np.arange(len(found.tokens)) * number).tolist()
