"""Cooperative stopping: a flag that sampling checks between two blocks of tokens.

A signal reaches the main thread only, and windows may be sampled in other threads. So the signal handler sets the flag,
and each thread stores the tokens of its window and raises StoppedError. A process that lost its run's lock to another
process ends too, and stores nothing more.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jukebox_core.errors import JukeboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_flag = threading.Event()
_ending = threading.Event()  # the flag has been seen
_holds: list[Callable[[], None]] = []


class StoppedError(JukeboxError):
    """The command was asked to stop; what it made so far, such as tokens, is stored."""


def request_stop() -> None:
    """Sets the flag: every window being sampled in this process stores its tokens and stops; idempotent."""
    _flag.set()


def stop_requested() -> bool:
    """Whether this process was asked to stop."""
    return _flag.is_set()


def is_ending() -> bool:
    """Whether a check has raised StoppedError since the request: tokens are being stored."""
    return _ending.is_set()


def clear_request() -> None:
    """Clears the flag: a new run begins."""
    _flag.clear()
    _ending.clear()


@contextmanager
def holding(check: Callable[[], None]) -> Iterator[None]:
    """A block in which `check`, of a lock, is called before each write; it raises RunError once the lock is lost."""
    _holds.append(check)
    try:
        yield
    finally:
        _holds.remove(check)


def check_held() -> None:
    """Checks that this process still holds the lock of its run.

    Raises:
        RunError: it has lost the lock.
    """
    for hold in _holds:
        hold()


def check(stored: str = "what was made so far is stored") -> None:
    """Checks that this process may continue.

    Args:
        stored: what is kept if it may not, for the message.

    Raises:
        StoppedError: it was asked to stop.
        RunError: it has lost the lock of its run.
    """
    check_held()
    if _flag.is_set():
        _ending.set()
        raise StoppedError(f"stopped as asked; {stored}")
