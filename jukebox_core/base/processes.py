"""Identities of processes: a process is identified by host, number and start, because numbers are reused.

Imports no torch.
"""

from __future__ import annotations

import os
import socket

import psutil

_TICKS = os.sysconf("SC_CLK_TCK")  # a second


def name_of(pid: int) -> str:
    """Returns the identity of a process of this machine, ``host/pid/start``; the start is 0 if it has ended."""
    return f"{socket.gethostname()}/{pid}/{start_of(pid) or 0}"


def own_name() -> str:
    """Returns the identity of this process."""
    return name_of(os.getpid())


def is_here(name: str) -> bool:
    """Whether the process with the identity `name` runs or ran on this machine."""
    return name.rsplit("/", 2)[0] == socket.gethostname()


def is_dead(name: str) -> bool:
    """Whether the process with the identity `name` has ended; False for one of another machine, or a malformed name."""
    host, pid, _ = name.rsplit("/", 2) if name.count("/") >= 2 else ("", "", "")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return start_of(int(pid)) is None or name_of(int(pid)) != name


def start_of(pid: int) -> int | None:
    """Returns when a process began, in clock ticks since boot; None if it does not exist or is a zombie.

    Ticks since boot, unlike the time of day, do not change when the clock is set.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        while True:
            boot = psutil.boot_time()
            created = process.create_time()
            if psutil.boot_time() == boot:  # else the clock was set between the two
                ticks: int = round((created - boot) * _TICKS)
                return ticks
            process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def children(parent: int) -> list[int]:
    """Returns the PIDs of the direct children of a process that have not ended."""
    try:
        return [child.pid for child in psutil.Process(parent).children() if _is_running(child.pid)]
    except psutil.NoSuchProcess:
        return []


def group_lives(group: int) -> bool:
    """Whether the process group `group` has a member that has not ended; zombies have."""
    return any(_group_of(pid) == group and _is_running(pid) for pid in psutil.pids())


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None
