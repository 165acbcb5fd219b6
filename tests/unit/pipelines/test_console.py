"""What Prefect's loggers may say on a terminal: of an error that the command line prints itself, nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from pipelines.console import prefect_errors_hidden

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("prefect.flow_runs", "prefect.task_runs")


@pytest.fixture(params=NAMES)
def shown(request: pytest.FixtureRequest) -> Iterator[tuple[logging.Logger, list[str]]]:
    """Yields a logger of Prefect's, and the messages that come through it."""
    logger, messages = logging.getLogger(request.param), []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Kept()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield logger, messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def test_errors_of_flows_and_tasks_are_hidden_in_the_block_alone(shown: tuple[logging.Logger, list[str]]) -> None:
    logger, messages = shown
    with prefect_errors_hidden():
        logger.error("in the block, with its traceback")
        logger.warning("a warning")
    logger.error("after the block")
    assert messages == ["a warning", "after the block"]
