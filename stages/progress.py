"""Progress of sampling: a line for each window in the run's log, and a live bar in a terminal."""

from __future__ import annotations

import functools
import logging
import resource
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.text import format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.progress import Progress

    from jukebox_core.tokens.graph import Node

log = logging.getLogger("jukebox")

DETAIL = {"detail": True}
"""`extra` of log lines for the log file only: too many for a terminal."""


@functools.cache
def console() -> Console:
    """Returns the terminal that bars and log lines share."""
    from rich.console import Console  # a twentieth of the imports of a run: only where there is a terminal

    return Console(stderr=True)


def peak_memory() -> int:
    """Returns the peak resident memory of this process, in bytes.

    Linux has it in /proc; what getrusage has there is at least the peak of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # other systems
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


@dataclass
class Meter:
    """Counts sampled tokens and estimates speed and remaining time.

    Totals are tokens of all samples of the run, by level; seconds of windows that are sampled in parallel count once.
    """

    left: dict[int, int] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    bar: Progress | None = None
    _until: dict[int, float] = field(default_factory=dict)  # by level: the time that `seconds` accounts for
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _finished: set[int] = field(default_factory=set)  # levels whose line is logged

    def start(self, level: int) -> float:
        """Marks `level` as being sampled; returns the clock for `advance`, in seconds."""
        with self._lock:
            if self.bar is not None and not any(task.fields["level"] == level for task in self.bar.tasks):
                self.bar.add_task(f"level {level}", total=self.left.get(level), level=level)
        return time.monotonic()

    def advance(self, level: int, tokens: int, since: float) -> float:
        """Counts `tokens` new tokens of `level` since the clock `since`; returns the present clock."""
        now = time.monotonic()
        with self._lock:
            self.seconds[level] = self.seconds.get(level, 0.0) + now - max(since, self._until.get(level, since))
            self._until[level] = now
            self.tokens[level] = self.tokens.get(level, 0) + tokens
            if level in self.left:
                self.left[level] = max(0, self.left[level] - tokens)
            bar = self.bar
            if bar is not None:
                for task in bar.tasks:
                    if task.fields["level"] == level:
                        bar.advance(task.id, tokens)
        return now

    def rate(self, level: int) -> float:
        """Returns tokens per second at `level` so far, all samples together."""
        return self.tokens.get(level, 0) / max(self.seconds.get(level, 0.0), 1e-9)

    def remaining(self, level: int) -> str:
        """Returns the remaining time at `level` at its present rate, as m:ss or h:mm:ss."""
        rate = self.rate(level)
        seconds = round(self.left.get(level, 0) / rate) if rate else 0
        return format_seconds(seconds)

    def window_done(self, nodes: Sequence[Node], seconds: float) -> None:
        """Logs the line of a window that has just been sealed for these nodes, after `seconds` of sampling."""
        node, new = nodes[0], sum(node.window.new for node in nodes)
        log.info(
            "level %d  window %d-%d  samples %s  %s new tokens  %.0f tokens/s  left at this level %s  peak %s",
            node.level,
            node.window.start,
            node.window.stop,
            ",".join(str(node.sample) for node in nodes),
            f"{new:,}",
            new / max(seconds, 1e-9),
            self.remaining(node.level),
            format_bytes(peak_memory()),
            extra=DETAIL,
        )
        self._level_done(node.level)

    def _level_done(self, level: int) -> None:
        """Logs the line of a level once all its tokens are sampled."""
        with self._lock:
            if self.left.get(level) != 0 or level in self._finished:
                return
            self._finished.add(level)
        tokens, seconds = self.tokens.get(level, 0), self.seconds.get(level, 0.0)
        log.info(
            "level %d is done: %s new tokens in %s, %.0f tokens/s, peak %s",
            level,
            f"{tokens:,}",
            format_seconds(seconds),
            self.rate(level),
            format_bytes(peak_memory()),
        )


_meter = Meter()


def meter() -> Meter:
    """Returns this process's meter; a worker process without one from `metering` has its own."""
    return _meter


@contextmanager
def metering(left: dict[int, int], *, live: bool) -> Iterator[Meter]:
    """Installs a new meter for one run; `left`: tokens to sample by level; `live`: show bars on stderr."""
    global _meter
    bar = None
    if live:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=console(), transient=True)
    previous, _meter = _meter, Meter(left=dict(left), bar=bar)
    try:
        if bar is not None:
            with bar:
                yield _meter
        else:
            yield _meter
    finally:
        _meter = previous
