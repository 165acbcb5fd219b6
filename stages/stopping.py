"""Stopping in time: a flag that whoever samples looks at between two blocks of tokens.

A signal reaches the main thread only, and windows may be sampled in others. So whoever learns that the run must end
raises the flag, and each window stores what it has and leaves. A process that lost its run to another one leaves as
well, and stores nothing more.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jukebox_core.errors import JukeboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_flag = threading.Event()
_holds: list[Callable[[], None]] = []


class StoppedError(JukeboxError):
    """The run was asked to stop; all tokens drawn so far are stored, and the same command continues."""


def request_stop() -> None:
    """Asks every window that is being sampled in this process to store its tokens and leave."""
    _flag.set()


def stop_requested() -> bool:
    """Whether this process was asked to stop."""
    return _flag.is_set()


def allow() -> None:
    """Takes the request back: a new run begins."""
    _flag.clear()


@contextmanager
def holding(check: Callable[[], None]) -> Iterator[None]:
    """A block within which `check`, a lock's, says before each write whether the run is still this process's."""
    _holds.append(check)
    try:
        yield
    finally:
        _holds.remove(check)


def check_held() -> None:
    """Leaves if this process has lost its run.

    Raises:
        RunError: it has.
    """
    for hold in _holds:
        hold()


def check() -> None:
    """Leaves if this process was asked to stop, or has lost its run.

    Raises:
        StoppedError: it was asked to.
        RunError: it has lost its run.
    """
    check_held()
    if _flag.is_set():
        raise StoppedError("stopped as asked; all tokens drawn so far are stored: run the same command to continue")
