"""Stopping in time: a flag that whoever samples looks at between two blocks of tokens.

A signal reaches the main thread only, and windows may be sampled in others. So whoever learns that the run must end
raises the flag, and each window stores what it has and leaves.
"""

from __future__ import annotations

import threading

from jukebox_core.errors import JukeboxError

_flag = threading.Event()


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


def check() -> None:
    """Leaves if this process was asked to stop.

    Raises:
        StoppedError: it was.
    """
    if _flag.is_set():
        raise StoppedError("stopped as asked; all tokens drawn so far are stored: run the same command to continue")
