"""Logging of a run: short lines on stderr, and the same lines and details, dated, in the run's log file."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import write_error
from jukebox_core.base.paths import user_path
from jukebox_core.base.text import printable
from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PREFECT = ("prefect.flow_runs", "prefect.task_runs")  # loggers


@contextmanager
def logged(folder: str, name: str) -> Iterator[None]:
    """Makes an output folder with a log in it, of the flow in the block; ConfigError if it cannot be made."""
    path = user_path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make folder {path} ({error.strerror}); choose another one") from None
    with contextlib.ExitStack() as log, prefect_errors_hidden():
        try:
            log.enter_context(run_log(path / name))
        except OSError as error:
            raise ConfigError(str(error)) from None
        yield


@contextmanager
def run_log(path: Path) -> Iterator[logging.Logger]:
    """Sends logger ``jukebox`` to stderr and, dated, to the end of the file `path`; yields the logger.

    Raises:
        DiskError: the file cannot be opened. One that cannot be written later is given up with one line on stderr.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        file = _RunLogHandler(path, encoding="utf-8")
    except OSError as error:
        raise write_error(path, error) from None
    file.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
    with shown_log(file) as log:
        yield log


@contextmanager
def shown_log(*others: logging.Handler) -> Iterator[logging.Logger]:
    """Sends logger ``jukebox`` to stderr and to `others`, which are closed at the end; yields the logger."""
    log = logging.getLogger("jukebox")
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    shown = _stderr_handler()
    shown.addFilter(lambda record: not getattr(record, "detail", False))
    handlers = (*others, shown)
    for handler in handlers:
        log.addHandler(handler)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        yield log
    finally:
        log.setLevel(before[0])
        log.propagate = before[1]
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


@contextmanager
def prefect_errors_hidden() -> Iterator[None]:
    """A block in which Prefect logs no failed tasks and flows: the error is raised, and printed by the command line."""
    hide_prefect_errors()
    try:
        yield
    finally:
        for name in _PREFECT:
            logging.getLogger(name).removeFilter(_below_error)


def hide_prefect_errors() -> None:
    """Does the same as `prefect_errors_hidden` until the process ends."""
    for name in _PREFECT:
        logging.getLogger(name).addFilter(_below_error)


class _RunLogHandler(logging.FileHandler):
    """A log file that a full disk ends, and nothing else: the run goes on, or ends by an error of its own."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - a name of logging's
        """Says once that the file cannot be written, and stops writing it."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.setLevel(logging.CRITICAL + 1)
        with contextlib.suppress(OSError):
            print(f"jukebox: {self.baseFilename} is not written any more: {error.strerror}", file=sys.stderr)  # noqa: T201

    def close(self) -> None:
        """Closes the file; what a full disk did not take is lost."""
        with contextlib.suppress(OSError):
            super().close()


def _below_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def _stderr_handler() -> logging.Handler:
    if not sys.stderr.isatty():
        handler: logging.Handler = logging.StreamHandler()
        handler.setFormatter(_Printable("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        return handler
    from rich.logging import RichHandler

    from stages.progress import console

    rich = RichHandler(console=console(), show_level=False, show_path=False, log_time_format="%H:%M:%S")
    rich.setFormatter(_Printable("%(message)s"))
    return rich


class _Printable(logging.Formatter):
    """Escapes what names of files can hold: line breaks, escape codes, and bytes that are not UTF-8."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        """Returns the line of a record."""
        return printable(super().formatMessage(record))
