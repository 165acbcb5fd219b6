"""What a person sees while a run goes on: short lines on stderr, and the same lines, dated, in the run's log file."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PREFECT = ("prefect.flow_runs", "prefect.task_runs")  # loggers


@contextmanager
def run_log(path: Path) -> Iterator[logging.Logger]:
    """Sends the lines of logger ``jukebox`` to stderr and, dated, to the file `path`, which is appended to."""
    written = logging.FileHandler(path, encoding="utf-8")
    written.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    with shown_log(written) as log:
        yield log


@contextmanager
def shown_log(*others: logging.Handler) -> Iterator[logging.Logger]:
    """Sends the lines of logger ``jukebox`` to stderr, and to `others`, which are closed at the end."""
    log = logging.getLogger("jukebox")
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    handlers = (*others, _shown())
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
def failures_told_once() -> Iterator[None]:
    """Keeps Prefect from telling of failed tasks and flows: what went wrong is raised, and told by the command line."""
    tell_failures_once()
    try:
        yield
    finally:
        for name in _PREFECT:
            logging.getLogger(name).removeFilter(_no_failure)


def tell_failures_once() -> None:
    """Does the same for as long as the process lasts."""
    for name in _PREFECT:
        logging.getLogger(name).addFilter(_no_failure)


def _no_failure(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def _shown() -> logging.Handler:
    if not sys.stderr.isatty():
        handler: logging.Handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        return handler
    from rich.logging import RichHandler

    from stages.progress import console

    return RichHandler(console=console(), show_level=False, show_path=False, log_time_format="%H:%M:%S")
