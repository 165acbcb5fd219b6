"""Which processes of this machine are still there. A process is named by number and start: numbers return."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def name_of(pid: int) -> str:
    """Returns the name of a process on this machine, as ``host/pid/start``; the start is 0 where it cannot be known."""
    return f"{socket.gethostname()}/{pid}/{_start(pid)}"


def own_name() -> str:
    """Returns the name of this process."""
    return name_of(os.getpid())


def is_here(name: str) -> bool:
    """Whether the process named so is one of this machine."""
    return name.rsplit("/", 2)[0] == socket.gethostname()


def is_dead(name: str) -> bool:
    """Whether the process named so has ended; False for one that cannot be known from here, as on another machine."""
    host, pid, _ = name.rsplit("/", 2) if name.count("/") >= 2 else ("", "", "")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return not _exists(int(pid)) or name_of(int(pid)) != name


def children(parent: int) -> list[int]:
    """Returns the processes that a process started and that have not ended; none where that cannot be known."""
    found = ((int(folder.name), _stat(int(folder.name))) for folder in Path("/proc").glob("[0-9]*"))
    return [pid for pid, fields in found if len(fields) > 1 and fields[1] == str(parent) and fields[0] != "Z"]


def group_lives(group: int) -> bool:
    """Whether a process of this group is there that has not ended; one that nobody waited for has."""
    members = [_stat(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")]
    if members:
        return any(fields[2] == str(group) and fields[0] != "Z" for fields in members if len(fields) > 2)
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) != "Z"


def _stat(pid: int) -> list[str]:
    """Returns the fields of /proc/PID/stat from the third on; none where there is no such file."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return (_stat(pid) or ["?"])[0]


def _start(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else "0"
