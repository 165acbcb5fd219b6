"""One worker a device: whoever samples first claims a device of its host and keeps it, with the models it loads there.

A claim is a file lock that the system takes back when the process ends, however it ends. So any number of processes of
a machine, of one run or of several, share its devices without knowing of each other. Imports no torch.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger("jukebox")

_PATIENCE = 1.0  # seconds between two looks at devices that other processes hold

_changed = threading.Condition()
_claims: dict[str, IO[str]] = {}  # devices that this process holds until it ends, and their open lock files
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
            for device in sorted(devices, key=lambda each: each not in _claims):  # its models are there already
                if device not in _busy and (device in _claims or _claim(device)):
                    _busy.add(device)
                    return device
            if not told:
                log.info("waiting for a free device: %s are in use", ", ".join(devices))
                told = True
            _changed.wait(_PATIENCE)
            stopping.check()


def _claim(device: str) -> bool:
    file = (lock_folder() / f"{re.sub(r'[^a-z0-9]', '_', device)}.lock").open("a", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _claims[device] = file
    return True


def give_back() -> None:
    """Gives up all devices this process holds; free its models first."""
    with _changed:
        for file in _claims.values():
            file.close()
        _claims.clear()
        _changed.notify_all()
