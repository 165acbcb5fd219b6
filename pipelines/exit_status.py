"""How the program ends, as whoever called it learns: one exit status for each way, decided here alone.

- 0: done.
- 1: the work failed, or what it needs cannot be fetched, reached or trusted.
- 2: refused before work began: what was asked for cannot be.
- 130: interrupted, as a shell has it of Ctrl-C; what was made until then is stored.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from jukebox_core.errors import (
    CheckpointError,
    DamagedError,
    DownloadError,
    JukeboxError,
    TrainingError,
    UnreachableError,
)
from stages.stopping import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED = 1
REFUSED = 2
INTERRUPTED = 130

_NO_REFUSAL = (CheckpointError, DamagedError, DownloadError, TrainingError, UnreachableError)  # whenever they come


@contextmanager
def working() -> Iterator[None]:
    """A block, or a function that it decorates, in which work goes on: whatever goes wrong there is no refusal."""
    try:
        yield
    except JukeboxError as error:
        error.at_work = True
        raise


def exit_status(error: JukeboxError | KeyboardInterrupt) -> int:
    """Returns the exit status of a program that `error` ends."""
    if isinstance(error, KeyboardInterrupt | StoppedError):
        return INTERRUPTED
    return FAILED if error.at_work or isinstance(error, _NO_REFUSAL) else REFUSED
