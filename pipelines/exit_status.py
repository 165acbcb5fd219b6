"""Exit statuses of the program, decided in this module only.

- 0: done.
- 1: the work failed, or a file, host or store that it needs is missing, unreachable or damaged.
- 2: refused before work began: the arguments or settings are invalid.
- 130: interrupted (128 + SIGINT, as in shells); all results until then are stored.
- 141: nobody reads the output any more (128 + SIGPIPE), as in ``jukebox runs list | head -1``.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import DISK, write_error
from jukebox_core.errors import (
    CheckpointError,
    DamagedError,
    DiskError,
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
PIPE_CLOSED = 141

_NO_REFUSAL = (
    CheckpointError,
    DamagedError,
    DiskError,
    DownloadError,
    NumericsError,
    TrainingError,
    UnreachableError,
)  # failures, also before work begins


@contextmanager
def working() -> Iterator[None]:
    """A block, or a decorated function, whose JukeboxErrors count as failures (status 1) and not as refusals (2).

    The errors of a full or failing disk that libraries raise become `DiskError`.
    """
    try:
        yield
    except JukeboxError as error:
        error.at_work = True
        raise
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise write_error(Path(str(error.filename or "a file")), error) from error


def exit_status(error: JukeboxError | KeyboardInterrupt) -> int:
    """Returns the exit status of a program that ends with `error`."""
    if isinstance(error, KeyboardInterrupt | StoppedError):
        return INTERRUPTED
    return FAILED if error.at_work or isinstance(error, _NO_REFUSAL) else REFUSED
