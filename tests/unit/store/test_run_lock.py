"""One process a run: real processes that end, are killed and are paused, on local disk and on S3."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base.locks import FileLock
from jukebox_core.errors import ConfigError, RunError, StoreError
from jukebox_core.store import lease as lease_module
from jukebox_core.store.config import LeaseConfig
from jukebox_core.store.lease import Owner
from jukebox_core.store.objects import open_objects
from jukebox_core.store.run_lock import RunLock
from tests.helpers.servers.servers import Gate, S3Server, gate_before

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHORT = LeaseConfig(seconds=3.0, refresh_seconds=0.3)

_HOLDER = """
import os, sys
from jukebox_core.store import lease
from jukebox_core.store.config import LeaseConfig
from jukebox_core.store.run_lock import RunLock
place, name, wait, elsewhere = sys.argv[1:]
def say(line):
    os.write(1, (line + "\\n").encode())  # whole lines, from whichever thread
if elsewhere == "elsewhere":
    lease.machine_id = lambda: "another machine"
lock = RunLock(
    place, name, wait=wait == "wait", lease=LeaseConfig(seconds=3.0, refresh_seconds=0.3),
    on_wait=lambda line: say("waits: " + line), on_lost=lambda: say("lost"),
)
with lock:
    say("held")
    for line in sys.stdin:
        try:
            lock.check()
            say("holds")
        except Exception as error:
            say(f"{type(error).__name__} {error}")
say("released")
"""


@pytest.fixture
def server(s3_configured: S3Server) -> S3Server:
    return s3_configured


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    request.getfixturevalue("server")
    return f"s3://store/{uuid.uuid4().hex}"


@pytest.fixture
def s3(server: S3Server) -> str:
    return f"s3://store/{uuid.uuid4().hex}"


@pytest.fixture
def hold() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that take a lock and say so; ends them."""
    started: list[subprocess.Popen[str]] = []

    def start(place: str, *, wait: bool = False, elsewhere: bool = False) -> subprocess.Popen[str]:
        words = [place, "run", "wait" if wait else "leave", "elsewhere" if elsewhere else "here"]
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        if process.stdin is not None and process.stdin.closed:
            process.stdin = None
        process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _ask(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("?\n")
    process.stdin.flush()
    return _line(process)


def test_a_second_process_is_refused_with_the_name_of_the_owner(place: str) -> None:
    message = rf"run run is worked on by process {os.getpid()} on .* since .*stop it"
    with RunLock(place, "run"), RunLock(place, "other"), pytest.raises(RunError, match=message):
        RunLock(place, "run").acquire()
    with RunLock(place, "run", lease=SHORT) as lock:
        lock.check()


def test_a_second_process_waits_and_reports_the_owner(place: str) -> None:
    said: list[str] = []
    order: list[str] = []

    def second() -> None:
        with RunLock(place, "run", wait=True, lease=SHORT, on_wait=said.append):
            order.append("second")

    with RunLock(place, "run", lease=SHORT):
        waiter = threading.Thread(target=second)
        waiter.start()
        deadline = time.monotonic() + 20
        while not said and time.monotonic() < deadline:
            time.sleep(0.02)
        order.append("first")
    waiter.join(20)
    assert order == ["first", "second"]
    assert len(said) == 1
    assert f"run run is worked on by process {os.getpid()}" in said[0]


@pytest.mark.slow
def test_a_killed_process_does_not_block(place: str, hold: Callable[..., subprocess.Popen[str]]) -> None:
    for _ in range(3):
        holder = hold(place)
        assert _line(holder) == "held"
        with pytest.raises(RunError, match=f"process {holder.pid} on"):
            RunLock(place, "run").acquire()
        holder.kill()
        holder.wait()
        with RunLock(place, "run"):  # its lease has half a minute to go: the process itself is looked up
            pass


@pytest.mark.slow
def test_a_process_killed_on_another_machine_blocks_for_the_time_of_its_lease(
    s3: str, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = hold(s3, elsewhere=True)
    assert _line(holder) == "held"
    time.sleep(3.5)
    with pytest.raises(RunError, match="or 3 s after it was killed"):  # it is renewed all the time
        RunLock(s3, "run", lease=SHORT).acquire()
    holder.kill()
    holder.wait()
    began = time.monotonic()
    with RunLock(s3, "run", wait=True, lease=SHORT):
        assert 0.5 < time.monotonic() - began < 10
    holder = hold(s3, elsewhere=True)
    assert _line(holder) == "held"
    holder.kill()
    holder.wait()
    time.sleep(5)  # the server's clock has whole seconds
    with RunLock(s3, "run", lease=SHORT):  # without waiting: by the server's clock
        pass


@pytest.mark.slow
def test_a_paused_process_that_lost_the_run_notices(s3: str, hold: Callable[..., subprocess.Popen[str]]) -> None:
    first = hold(s3, elsewhere=True)
    assert _line(first) == "held"
    second = hold(s3, wait=True)
    assert f"waits: run run is worked on by process {first.pid}" in _line(second)
    assert _ask(first) == "holds"
    first.send_signal(signal.SIGSTOP)
    assert _line(second) == "held"
    assert _ask(second) == "holds"
    first.send_signal(signal.SIGCONT)
    said = {_ask(first), _line(first)}
    assert "lost" in said
    assert any(line.startswith("RunError another process took over") for line in said)
    assert _ask(first).startswith("RunError")
    assert _ask(second) == "holds"
    assert second.stdin is not None
    second.stdin.close()
    assert _line(second) == "released"
    with RunLock(s3, "run", lease=SHORT):
        assert _ask(first).startswith("RunError")


@pytest.mark.slow
def test_one_of_many_processes_acquires_the_run(place: str, hold: Callable[..., subprocess.Popen[str]]) -> None:
    holders = [hold(place) for _ in range(5)]
    said = [_line(holder) for holder in holders]
    assert sorted(said) == ["", "", "", "", "held"]
    for holder, line in zip(holders, said, strict=True):
        if not line:
            assert "RunError" in holder.communicate()[1]


@pytest.mark.slow
def test_an_outage_does_not_lose_the_run(server: S3Server) -> None:
    uri, lost = f"s3://store/{uuid.uuid4().hex}", threading.Event()
    config = LeaseConfig(seconds=0.6, refresh_seconds=0.1)
    with gate_before(server.url) as gate:
        options = {"endpoint_url": gate.url}
        with RunLock(uri, "run", lease=config, options=options, on_lost=lost.set) as lock:
            gate.mode = "refuse"
            time.sleep(1)
            lock.check()
            gate.mode = "pass"
            time.sleep(1)
            lock.check()
        assert not lost.is_set()
        with RunLock(uri, "run", lease=config):  # it was released
            pass


def test_releasing_does_not_wait_for_an_unresponsive_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_RELEASE_SECONDS", 0.2)
    with gate_before(server.url) as gate:
        _hold_and_leave(gate)
        gate.mode = "pass"


def _hold_and_leave(gate: Gate) -> None:
    lock = RunLock(f"s3://store/{uuid.uuid4().hex}", "run", options={"endpoint_url": gate.url})
    lock.acquire()
    gate.mode = "stall"
    began = time.monotonic()
    lock.release()
    assert time.monotonic() - began < 5


def test_a_lost_response_to_the_acquisition_is_no_loss(server: S3Server) -> None:
    with gate_before(server.url) as gate:
        lock = RunLock(f"s3://store/{uuid.uuid4().hex}", "run", options={"endpoint_url": gate.url})

        gate.mode = "lose"
        gate.times = 3  # the listing, and the making of the lease among them
        with lock:
            lock.check()


def test_an_unreadable_lease_holds_for_its_time(s3: str) -> None:
    open_objects(s3).replace("locks/run/00000007.json", b"what?")
    with pytest.raises(RunError, match="process 0 on an unknown host"):
        RunLock(s3, "run", lease=SHORT).acquire()
    with RunLock(s3, "run", lease=LeaseConfig(seconds=0.5, refresh_seconds=0.1), wait=True):
        names = open_objects(s3).sizes("locks")
        assert list(names) == ["locks/run/00000008.json"]


def test_only_owners_of_this_machine_are_looked_up() -> None:
    mine = Owner.current()
    assert Owner.from_json(mine.to_json().encode()) == mine
    assert not mine.has_ended()
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        data = json.loads(mine.to_json()) | {"pid": process.pid}
    dead = Owner.from_json(json.dumps(data).encode())
    assert dead is not None
    assert dead.has_ended() == (mine.machine is not None)
    reused = Owner.from_json(json.dumps(json.loads(mine.to_json()) | {"started": 1}).encode())
    assert reused is not None
    assert reused.has_ended() == (mine.machine is not None)
    other = Owner.from_json(json.dumps(data | {"machine": "another"}).encode())
    assert other is not None
    assert not other.has_ended()
    assert Owner.from_json(b"[]") is Owner.from_json(b"{}") is Owner.from_json(b"\xff") is None


def test_a_forked_child_does_not_hold_its_parents_lock(tmp_path: Path) -> None:
    code = """
import os, sys, time
from jukebox_core.store.run_lock import RunLock
RunLock(sys.argv[1], "run").acquire()
child = os.fork()
if not child:
    time.sleep(60)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        child = int(_line(parent))
        try:
            parent.wait()
            time.sleep(0.2)  # the child may be about to let go
            with RunLock(tmp_path, "run"):
                os.kill(child, 0)  # it lives
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_lock_on_a_removed_file_is_none(tmp_path: Path) -> None:
    lock, later = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert lock.acquire()
    assert not later.acquire()
    lock.path.unlink()
    assert later.acquire()
    lock.release()
    assert not FileLock(tmp_path / "lock").acquire()
    later.release()


def test_bad_names_and_times(tmp_path: Path) -> None:
    for name in ("", "a/b", "..", ".hidden"):
        with pytest.raises(RunError, match="cannot be locked"):
            RunLock(tmp_path, name)
    with pytest.raises(ConfigError, match="at most half"):
        LeaseConfig(seconds=5, refresh_seconds=3)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="something that is no folder is in its path"):
        RunLock(tmp_path / "file", "run").acquire()
