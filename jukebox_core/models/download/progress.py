"""Shows a person how a download goes: a bar on a terminal, a plain line now and then elsewhere. Imports no torch."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, TextIO

from jukebox_core.base.text import format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from jukebox_core.models.config import FileSpec

BAR_SECONDS, LINE_SECONDS = 0.2, 15.0  # between two updates
QUIET_SECONDS = 1.0  # a file that takes no longer is not worth a word

_BAR = 24  # characters
_RATE_SECONDS = 10.0  # the rate is that of so many last seconds


class Meter:
    """Shows how far the download of one file is; call it with the bytes there and the bytes in all."""

    def __init__(self, name: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the file's name; `stream` is stderr by default."""
        self._name, self._clock = name, clock
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._seen: deque[tuple[float, int]] = deque()
        self._first: tuple[float, int] | None = None
        self._next: float | None = None  # when to show something next; None before the first bytes
        self._spoke = False
        self._width = 0

    def __call__(self, done: int, total: int | None) -> None:
        """Notes what is there, and shows it if it is time to."""
        at = self._clock()
        self._first = self._first or (at, done)
        self._seen.append((at, done))
        while len(self._seen) > 2 and at - self._seen[0][0] > _RATE_SECONDS:
            self._seen.popleft()
        if self._next is None:
            self._next = at + QUIET_SECONDS
        if at >= self._next:
            self._next = at + (BAR_SECONDS if self._live else LINE_SECONDS)
            self._show(self._text(done, total))

    def close(self) -> None:
        """Says what was fetched in all; nothing if nothing was, or in no time."""
        if self._first is None or not self._spoke:
            return
        (began, had), (ended, done) = self._first, self._seen[-1]
        rate = (done - had) / max(ended - began, 1e-3)
        self._show(f"{self._name}: {format_bytes(done)} in {format_seconds(ended - began)}, {format_bytes(rate)}/s")
        if self._live:
            self._stream.write("\n")

    def waiting(self) -> None:
        """Says that another process is at this file."""
        self._show(f"{self._name}: another process is fetching it; waiting for that")

    def _text(self, done: int, total: int | None) -> str:
        (began, had), (at, _) = self._seen[0], self._seen[-1]
        rate = (done - had) / (at - began) if at > began else 0.0
        told = f"{format_bytes(done)}{f' of {format_bytes(total)}' if total else ''}, {format_bytes(rate)}/s"
        if not total:
            return f"{self._name}: {told}"
        left = f", {format_seconds((total - done) / rate)} left" if rate else ""
        filled = round(_BAR * min(done / total, 1))
        bar = f" [{'#' * filled}{'.' * (_BAR - filled)}]" if self._live else ""
        return f"{self._name}:{bar} {done / total:.0%} {told}{left}"

    def _show(self, text: str) -> None:
        self._spoke = True
        if self._live:
            self._stream.write(f"\r{text:<{self._width}}")
            self._width = len(text)
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


def meter(spec: FileSpec) -> Meter:
    """The meter of one file, on stderr."""
    return Meter(spec.path)
