"""One worker per device: a worker claims a device of its host and keeps it, with the models that it loads there.

A claim is a file lock that the system releases when the process ends, however it ends. So any number of processes of
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

_POLL_SECONDS = 1.0  # between two attempts to claim devices that other processes hold

_changed = threading.Condition()
_claims: dict[str, FileLock] = {}  # devices that this process has claimed until it ends
_busy: set[str] = set()  # those of them that a thread uses now


def lock_folder() -> Path:
    """Returns the folder of this user's lock files on this machine, created if missing."""
    folder = Path(tempfile.gettempdir()) / f"jukebox-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def own_device(devices: Sequence[str], otherwise: str) -> Iterator[str]:
    """Yields a device of `devices` for exclusive use; if `devices` is empty, `otherwise`, which all workers share.

    Waits while all devices are held by other processes or used by other threads of this one.

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
    logged = False
    with _changed:
        while True:
            for device in sorted(devices, key=lambda each: not _claimed(each)):  # models are loaded on claimed ones
                if device not in _busy and (_claimed(device) or _claim(device)):
                    _busy.add(device)
                    return device
            if not logged:
                log.info("waiting for a free device: %s are in use", ", ".join(devices))
                logged = True
            _changed.wait(_POLL_SECONDS)
            stopping.check()


def _claim(device: str) -> bool:
    lock = FileLock(lock_folder() / f"{re.sub(r'[^a-z0-9]', '_', device)}.lock")
    if not lock.acquire():
        return False
    _claims[device] = lock
    return True


def _claimed(device: str) -> bool:
    return device in _claims and _claims[device].held  # a forked child does not hold its parent's locks


def release_devices() -> None:
    """Releases all devices that this process holds; free its models first."""
    with _changed:
        for lock in _claims.values():
            lock.release()
        _claims.clear()
        _changed.notify_all()
