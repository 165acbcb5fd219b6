"""Being asked to stop by a signal: what is being sampled is stored, then the run leaves."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PATIENCE = 2.0  # seconds until a stage that does not look at the flag is left as it stands


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Turns SIGTERM and SIGINT into a request to stop, which ends in `stopping.StoppedError`.

    Sampling stores its tokens and leaves within a few of them; any other stage is interrupted after `PATIENCE`: its
    files are written whole or not at all. A second SIGINT is a KeyboardInterrupt at once; another SIGTERM adds nothing.
    Signals reach the main thread only; elsewhere, and within another such block, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is _ask:
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    listen()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def listen() -> None:
    """Does the same for as long as the process lasts."""
    stopping.allow()
    signal.signal(signal.SIGTERM, _ask)
    signal.signal(signal.SIGINT, _ask)
    signal.signal(signal.SIGALRM, _leave)


def disarm() -> None:
    """Lets what goes on go on: it ends by itself soon."""
    if threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)


def hush() -> None:
    """Has the process leave in peace: it stopped as asked, and a signal that repeats the request changes nothing."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def _ask(number: int, _: FrameType | None) -> None:
    if number == signal.SIGINT and stopping.stop_requested():
        raise KeyboardInterrupt
    if not stopping.stop_requested():
        stopping.request_stop()
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)


def _leave(_number: int, _frame: FrameType | None) -> None:
    stopping.check()
