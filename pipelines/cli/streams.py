"""The program's output: any text can be printed, and a reader that went away ends the program quietly."""

from __future__ import annotations

import io
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


def prepare() -> None:
    """Makes stdout and stderr take every text: what their encoding lacks is escaped, and a closed one is discarded."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Writes what is still buffered, so that an error appears here, and not when the interpreter ends.

    Raises:
        OSError: stdout or stderr cannot be written; BrokenPipeError if their reader ended.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def discard_broken() -> bool:
    """Sends further output of each stream that cannot be written to nowhere; returns whether there is one."""
    broken = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            gone = _has_no_reader(stream)
        except OSError:
            gone = True
        if gone:
            broken = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return broken


def _has_no_reader(stream: TextIO) -> bool:
    try:
        descriptor = stream.fileno()
    except OSError:  # replaced, by a test or a program
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
