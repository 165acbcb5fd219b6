"""Requests to stop, and run locks lost to another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import RunError
from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    yield
    stopping.clear_request()


def lost() -> None:
    raise RunError("another process took over")


def test_a_request_raises_and_says_that_nothing_is_lost() -> None:
    stopping.check()
    stopping.request_stop()
    with pytest.raises(stopping.StoppedError, match="what was made so far is stored"):
        stopping.check()
    with pytest.raises(stopping.StoppedError, match="stopped as asked; level_2 is stored at step 3 of 9"):
        stopping.check("level_2 is stored at step 3 of 9")
    stopping.clear_request()
    stopping.check()


def test_a_lost_lock_is_reported_before_a_request_to_stop() -> None:
    stopping.request_stop()  # as the lease does when it notices the loss
    with stopping.holding(lost):
        with pytest.raises(RunError, match="another process took over"):
            stopping.check()
        with pytest.raises(RunError, match="another process took over"):
            stopping.check_held()
    stopping.check_held()
