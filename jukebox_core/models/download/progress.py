"""Progress of downloads on stderr: a bar on a terminal, by rich; plain lines elsewhere. Imports no torch."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self, TextIO

from jukebox_core.base.text import format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress

BAR_SECONDS, LINE_SECONDS = 0.2, 15.0  # between two updates
QUIET_SECONDS = 1.0  # a file that takes no longer is not reported


class Meter:
    """Progress of one file; call it with the bytes that have arrived and the bytes in all. A context manager."""

    def __init__(self, name: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the file's name; `stream` is stderr by default."""
        self._name, self._clock, self._stream = name, clock, stream or sys.stderr
        self._bar = _bar(self._stream, clock) if self._stream.isatty() else None
        self._first: tuple[float, int] | None = None  # time and bytes at the first call
        self._before = self._last = (0.0, 0)  # at the last report, and at the last call
        self._next = 0.0  # time of the next report
        self._reported = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, done: int, total: int | None) -> None:
        """Notes `done` bytes of `total`, and reports them if an update is due."""
        at = self._clock()
        if self._first is None:
            self._first = self._before = (at, done)
            self._next = at + QUIET_SECONDS
        self._last = (at, done)
        if at < self._next:
            return
        self._next = at + (BAR_SECONDS if self._bar else LINE_SECONDS)
        if self._bar is None:
            self._print(self._line(done, total))
        else:
            if not self._bar.tasks:
                self._bar.add_task(self._name, completed=self._first[1], total=total)
                self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, refresh=True)
        self._before, self._reported = self._last, True

    def waiting(self) -> None:
        """Reports that another process is fetching this file."""
        self._print(f"{self._name}: another process is fetching it; waiting for that")

    def close(self) -> None:
        """Reports size, duration and rate, if anything was reported before."""
        if self._bar is not None:
            self._bar.stop()
        if self._first is not None and self._reported:
            seconds, done = format_seconds(self._last[0] - self._first[0]), format_bytes(self._last[1])
            self._print(f"{self._name}: {done} in {seconds}, {format_bytes(_rate(self._first, self._last))}/s")

    def _line(self, done: int, total: int | None) -> str:
        rate = _rate(self._before, self._last)
        if not total:
            return f"{self._name}: {format_bytes(done)}, {format_bytes(rate)}/s"
        left = f", {format_seconds((total - done) / rate)} left" if rate else ""
        share = f"{done / total:.0%} {format_bytes(done)} of {format_bytes(total)}"
        return f"{self._name}: {share}, {format_bytes(rate)}/s{left}"

    def _print(self, text: str) -> None:
        self._reported = True
        self._stream.write(f"{text}\n")
        self._stream.flush()


def _rate(first: tuple[float, int], last: tuple[float, int]) -> float:
    """Returns bytes a second between two times."""
    return (last[1] - first[1]) / max(last[0] - first[0], 1e-3)


def _bar(stream: TextIO, clock: Callable[[], float]) -> Progress | None:
    """Returns a bar that is not drawn yet; None where rich is not installed (`python -m jukebox_core.models`)."""
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return None
    return progress.Progress(
        progress.TextColumn("{task.description}:"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(file=stream),
        auto_refresh=False,
        transient=True,
        get_time=clock,
    )
