"""SIGTERM and SIGINT as a request to stop: unfinished windows are stored, then the run ends."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

INTERRUPT_SECONDS = 2.0  # after which a stage that does not check the flag is interrupted


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Turns SIGTERM and SIGINT into a request to stop, which ends in `stopping.StoppedError`.

    Sampling stores its tokens and ends within a few of them; any other stage is interrupted after `INTERRUPT_SECONDS`:
    its files are written atomically. A second SIGINT raises KeyboardInterrupt at once; a second SIGTERM is ignored.
    Signals reach the main thread only; in other threads, and within another such block, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is _request_stop:
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    install_handlers()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def install_handlers() -> None:
    """Does the same as `stopping_on_signals` until the process ends."""
    stopping.clear_request()
    signal.signal(signal.SIGTERM, _request_stop)
    signal.signal(signal.SIGINT, _request_stop)
    signal.signal(signal.SIGALRM, _raise_stopped)


def cancel_alarm() -> None:
    """Cancels the interruption that a signal scheduled: workers are being stopped in order, and that may take longer.

    Outside the main thread, which alone has the alarm, this does nothing.
    """
    if threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)


def ignore_further_signals() -> None:
    """Ignores signals until the process ends: it is stopping already, and must not be interrupted while it does."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def _request_stop(number: int, _: FrameType | None) -> None:
    if number == signal.SIGINT and stopping.stop_requested():
        raise KeyboardInterrupt
    if not stopping.stop_requested():
        stopping.request_stop()
        signal.setitimer(signal.ITIMER_REAL, INTERRUPT_SECONDS)


def _raise_stopped(_number: int, _frame: FrameType | None) -> None:
    stopping.check()
