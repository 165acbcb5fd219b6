"""Which processes still run: identified by number and start, because numbers are reused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jukebox_core.base.machine import boot_id, machine_id
from jukebox_core.base.processes import children, group_lives, is_dead, name_of, own_name, start_of

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_this_process_lives() -> None:
    assert own_name().startswith(f"{socket.gethostname()}/{os.getpid()}/")
    assert not is_dead(own_name())


def test_a_killed_process_is_dead_even_before_its_parent_waited_for_it() -> None:
    with subprocess.Popen(SLEEPER) as process:
        name = name_of(process.pid)
        assert not is_dead(name)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie now
        assert is_dead(name)
    assert is_dead(name)


def test_a_reused_number_is_another_process() -> None:
    host, pid, start = own_name().rsplit("/", 2)
    assert is_dead(f"{host}/{pid}/{int(start) - 1}")


def test_an_unknown_or_malformed_identity_is_not_dead() -> None:
    for name in ("elsewhere/1/2", "", "nonsense", f"{socket.gethostname()}/x/1"):
        assert not is_dead(name)


def test_a_process_that_has_ended_has_no_start() -> None:
    with subprocess.Popen(SLEEPER) as process:
        assert start_of(process.pid) is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert start_of(process.pid) is None
    assert name_of(process.pid).endswith("/0")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="compares with Linux's own figure")
def test_the_start_is_in_ticks_since_boot() -> None:
    """As manifests and leases of earlier versions have it."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert start_of(os.getpid()) == int(fields[19])
    assert machine_id() == f"{boot_id()} {Path('/proc/self/ns/pid').readlink()}"


def test_the_children_of_a_process_are_those_that_have_not_ended() -> None:
    with subprocess.Popen(SLEEPER) as process:
        assert process.pid in children(os.getpid())
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process.pid not in children(os.getpid())


def test_a_group_lives_until_its_last_process_ended() -> None:
    with subprocess.Popen(SLEEPER, start_new_session=True) as process:
        assert group_lives(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not group_lives(process.pid)
