"""Exit statuses of the program, decided in this module only.

- 0: done.
- 1: the work failed, or a file, host or store that it needs is missing, unreachable or damaged.
- 2: refused before work began: the arguments or settings are invalid.
- 130: interrupted (128 + SIGINT, as in shells); all results until then are stored.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from jukebox_core.errors import (
    CheckpointError,
    DamagedError,
    DownloadError,
    JukeboxError,
    NumericsError,
    TrainingError,
    UnreachableError,
)
from stages.stopping import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED = 1
REFUSED = 2
INTERRUPTED = 130

_NO_REFUSAL = (
    CheckpointError,
    DamagedError,
    DownloadError,
    NumericsError,
    TrainingError,
    UnreachableError,
)  # failures, also before work begins


@contextmanager
def working() -> Iterator[None]:
    """A block, or a decorated function, whose JukeboxErrors count as failures (status 1) and not as refusals (2)."""
    try:
        yield
    except JukeboxError as error:
        error.at_work = True
        raise


def exit_status(error: JukeboxError | KeyboardInterrupt) -> int:
    """Returns the exit status of a program that ends with `error`."""
    if isinstance(error, KeyboardInterrupt | StoppedError):
        return INTERRUPTED
    return FAILED if error.at_work or isinstance(error, _NO_REFUSAL) else REFUSED
