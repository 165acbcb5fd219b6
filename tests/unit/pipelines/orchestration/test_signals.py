"""Signals at any moment of a command: what they raise, when, and what is left as it was."""

# ruff: noqa: PT012 - a signal is sent and handled within a block

from __future__ import annotations

import os
import pty
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import CheckpointError, DiskError, RunError
from pipelines.orchestration import signals
from pipelines.orchestration.signals import ending_on_signals, ignore_further_signals, stopping_on_signals
from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Handlers of this process; those of tests are gone afterwards, and SIGHUP is not ignored as below nohup."""
    before = {number: signal.getsignal(number) for number in (*ALL, signal.SIGALRM)}
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)
    stopping.clear_request()


@contextmanager
def unchanged() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (*ALL, signal.SIGALRM)]
    yield
    assert [signal.getsignal(number) for number in (*ALL, signal.SIGALRM)] == before


@pytest.mark.parametrize("number", ALL)
def test_before_and_after_a_run_a_signal_ends_the_command_at_once(number: int) -> None:
    with unchanged(), pytest.raises(KeyboardInterrupt), ending_on_signals():
        os.kill(os.getpid(), number)
        pytest.fail("the signal was not handled")


@pytest.mark.parametrize("number", ALL)
def test_within_a_run_a_signal_is_a_request(number: int) -> None:
    with unchanged(), pytest.raises(stopping.StoppedError), ending_on_signals(), stopping_on_signals():
        os.kill(os.getpid(), number)
        assert stopping.stop_requested()
        os.kill(os.getpid(), signal.SIGTERM)  # as `timeout` sends it twice
        os.kill(os.getpid(), signal.SIGHUP)
        stopping.check()


def test_a_second_interrupt_ends_a_run_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), ending_on_signals(), stopping_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)


def test_while_a_command_ends_further_signals_are_ignored() -> None:
    with pytest.raises(KeyboardInterrupt), ending_on_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            finished = True
    assert finished


def test_a_signal_that_a_library_lost_ends_the_command_where_a_run_begins() -> None:
    with pytest.raises(stopping.StoppedError), ending_on_signals():
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with stopping_on_signals():
            pytest.fail("the run began")


@pytest.mark.parametrize("error", [ValueError("object type"), CheckpointError("truncated"), OSError("read")])
def test_what_a_library_made_of_a_signal_counts_as_the_signal(error: Exception) -> None:
    with pytest.raises(KeyboardInterrupt), ending_on_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise error from None
    with pytest.raises(type(error)), ending_on_signals():
        raise error


def test_tokens_that_could_not_be_stored_are_reported_after_a_signal_too() -> None:
    with pytest.raises(DiskError), ending_on_signals(), stopping_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        raise DiskError("no space left")


def test_a_lost_lock_is_no_signal() -> None:
    with pytest.raises(RunError), ending_on_signals():
        stopping.request_stop()  # as the lease does
        raise RunError("another process took over")


def test_a_stage_that_does_not_look_at_the_flag_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "INTERRUPT_SECONDS", 0.05)
    with pytest.raises(stopping.StoppedError), stopping_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(30)


def test_a_stage_that_is_storing_its_tokens_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "INTERRUPT_SECONDS", 0.05)
    monkeypatch.setattr(signals, "STORE_SECONDS", 0.4)
    alarms = []
    real = signals._raise_stopped
    monkeypatch.setattr(signals, "_raise_stopped", lambda *given: (alarms.append(1), real(*given)))
    with pytest.raises(stopping.StoppedError), stopping_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            stopping.check()
        finally:
            with pytest.raises(stopping.StoppedError):
                threading.Event().wait(30)
    assert len(alarms) == 2


def test_below_nohup_a_closed_terminal_changes_nothing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ending_on_signals(), stopping_on_signals():
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stopping.stop_requested()


def test_nothing_is_written_to_a_closed_terminal() -> None:
    ours, theirs = pty.openpty()
    kept = os.dup(2)
    os.dup2(theirs, 2)
    try:
        with pytest.raises(KeyboardInterrupt), ending_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert not os.isatty(2)
        os.write(2, b"lost")
    finally:
        os.dup2(kept, 2)
        for descriptor in (ours, theirs, kept):
            os.close(descriptor)


def test_signals_after_the_last_block_of_a_process_change_nothing() -> None:
    with ending_on_signals(of_process=True):
        pass
    for number in ALL:
        os.kill(os.getpid(), number)
    ignore_further_signals()


def test_other_threads_install_no_handlers() -> None:
    def run() -> None:
        with ending_on_signals(), stopping_on_signals():
            inside.append(signal.getsignal(signal.SIGTERM))

    inside: list[object] = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert inside == [signal.SIG_DFL]
