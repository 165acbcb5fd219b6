"""One worker a device: whoever samples first claims a device of its host and keeps it, with the models it loads there.

A claim is a file lock that the system takes back when the process ends, however it ends. So any number of processes of
a machine, of one run or of several, share its devices without knowing of each other. Imports no torch.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.locks import FileLock
from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger("jukebox")

_PATIENCE = 1.0  # seconds between two looks at devices that other processes hold

_changed = threading.Condition()
_claims: dict[str, FileLock] = {}  # devices that this process has claimed until it ends
_busy: set[str] = set()  # those of them that a thread computes on now


def lock_folder() -> Path:
    """Returns the folder of this user's lock files on this machine, made if need be."""
    folder = Path(tempfile.gettempdir()) / f"jukebox-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def own_device(devices: Sequence[str], otherwise: str) -> Iterator[str]:
    """Gives a device of `devices` that no one else computes on; `otherwise`, shared by all, if there are none to claim.

    Waits while other processes hold all of them, and other threads use those that this process holds.

    Raises:
        StoppedError: this process was asked to stop while it waited.
    """
    if not devices:
        yield otherwise
        return
    device = _wait_for(devices)
    try:
        yield device
    finally:
        with _changed:
            _busy.discard(device)
            _changed.notify()


def _wait_for(devices: Sequence[str]) -> str:
    told = False
    with _changed:
        while True:
            for device in sorted(devices, key=lambda each: not _claimed(each)):  # its models are there already
                if device not in _busy and (_claimed(device) or _claim(device)):
                    _busy.add(device)
                    return device
            if not told:
                log.info("waiting for a free device: %s are in use", ", ".join(devices))
                told = True
            _changed.wait(_PATIENCE)
            stopping.check()


def _claim(device: str) -> bool:
    lock = FileLock(lock_folder() / f"{re.sub(r'[^a-z0-9]', '_', device)}.lock")
    if not lock.acquire():
        return False
    _claims[device] = lock
    return True


def _claimed(device: str) -> bool:
    return device in _claims and _claims[device].held  # a forked child does not hold what its parent does


def give_back() -> None:
    """Gives up all devices this process holds; free its models first."""
    with _changed:
        for lock in _claims.values():
            lock.release()
        _claims.clear()
        _changed.notify_all()
