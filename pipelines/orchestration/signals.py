"""SIGTERM, SIGINT and SIGHUP end the program in order at any moment: what was made is stored, and one line says so.

While a run samples, they are a request to stop (`stopping_on_signals`); before and after it, when nothing is being
made, they raise KeyboardInterrupt at once (`ending_on_signals`, around a whole command). Imports no Prefect.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from jukebox_core.errors import StoreError
from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

INTERRUPT_SECONDS = 2.0  # after which a stage that does not check the flag is interrupted
STORE_SECONDS = 10.0  # after which one that is storing its tokens is interrupted too

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_received: list[int] = []  # signals, in order, since the outermost block began
_terminals: list[int] = []  # of the standard streams: those that were terminals when the handlers were installed


@contextmanager
def ending_on_signals(*, of_process: bool = False) -> Iterator[None]:
    """A block, of a whole command, that a first signal ends by KeyboardInterrupt; further ones but SIGINT are ignored.

    SIGHUP says that the terminal is closed: nothing is written to it any more. It is left ignored where ``nohup`` has
    done so. Signals reach the main thread only; in other threads this does nothing.

    A library in whose callback a signal is handled can turn what is raised there into any other exception: after a
    signal, every one but an error of storing tokens counts as KeyboardInterrupt.

    Args:
        of_process: the process ends after the block: signals are ignored from then on, so that they do not change the
            exit status of what is done.
    """
    with _handling(_interrupt):
        try:
            yield
        except (stopping.StoppedError, StoreError):
            raise
        except Exception as error:
            if not _received:
                raise
            raise KeyboardInterrupt from error
        finally:
            if of_process:
                ignore_further_signals()


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Turns SIGTERM, SIGINT and SIGHUP into a request to stop, which ends in `stopping.StoppedError`.

    Sampling stores its tokens and ends within a few of them; any other stage is interrupted after `INTERRUPT_SECONDS`:
    its files are written atomically. A second SIGINT raises KeyboardInterrupt at once; other further signals are
    ignored. Signals reach the main thread only; in other threads, and within another such block, this does nothing.

    Raises:
        StoppedError: a signal came before the block, and what it raised was lost in a library.
    """
    if _is_handled_by(_request_stop):
        yield
        return
    with _handling(_request_stop):
        stopping.check()
        yield


def install_handlers() -> None:
    """Does the same as `stopping_on_signals` until the process ends."""
    stopping.clear_request()
    _received.clear()
    _install(_request_stop)


def cancel_alarm() -> None:
    """Cancels the interruption that a signal scheduled: workers are being stopped in order, and that may take longer.

    Outside the main thread, which alone has the alarm, this does nothing.
    """
    if threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)


def ignore_further_signals() -> None:
    """Ignores signals until the process ends: it is stopping already, and must not be interrupted while it does."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (*_ENDING, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Installs a handler for the block. An outermost block forgets requests to stop of earlier ones."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not _is_handled_by(_interrupt):
        stopping.clear_request()
        _received.clear()
    before = {number: signal.getsignal(number) for number in (*_ENDING, signal.SIGALRM)}
    _install(handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, previous in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # else the process is ending
                signal.signal(number, previous)


def _is_handled_by(handler: Callable[[int, FrameType | None], None]) -> bool:
    """Whether a handler is installed: for SIGINT, since Prefect has one of its own for SIGTERM in a flow."""
    return signal.getsignal(signal.SIGINT) is handler


def _install(handler: Callable[[int, FrameType | None], None]) -> None:
    _terminals[:] = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]
    for number in _ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
    signal.signal(signal.SIGALRM, _raise_stopped)


def _interrupt(number: int, _: FrameType | None) -> None:
    """Ends the program, which is making nothing now."""
    _leave_terminal(number)
    _received.append(number)
    stopping.request_stop()
    if number == signal.SIGINT or len(_received) == 1:
        raise KeyboardInterrupt


def _request_stop(number: int, _: FrameType | None) -> None:
    """Requests a stop of what is being made."""
    _leave_terminal(number)
    if number == signal.SIGINT and stopping.stop_requested():
        raise KeyboardInterrupt
    _received.append(number)
    if not stopping.stop_requested():
        stopping.request_stop()
        signal.setitimer(signal.ITIMER_REAL, INTERRUPT_SECONDS, STORE_SECONDS)


def _raise_stopped(_number: int, _frame: FrameType | None) -> None:
    """Interrupts a stage that did not check the flag; one that did is storing its tokens, and has more time."""
    if signal.getitimer(signal.ITIMER_REAL)[1] and stopping.is_ending():
        signal.setitimer(signal.ITIMER_REAL, STORE_SECONDS)
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    stopping.check()


def _leave_terminal(number: int) -> None:
    """Redirects the standard streams of a closed terminal to nowhere: writing to it would be an error."""
    if number != signal.SIGHUP or not _terminals:
        return
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in _terminals:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
