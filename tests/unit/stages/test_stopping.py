"""Being asked to stop, and having lost a run to another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import RunError
from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _allowed() -> Iterator[None]:
    yield
    stopping.allow()


def lost() -> None:
    raise RunError("another process took over")


def test_a_request_is_told_with_what_continues() -> None:
    stopping.check()
    stopping.request_stop()
    with pytest.raises(stopping.StoppedError, match="run the same command to continue"):
        stopping.check()
    stopping.allow()
    stopping.check()


def test_a_lost_run_is_told_as_lost_and_not_as_stopped() -> None:
    stopping.request_stop()  # as who notices the loss does
    with stopping.holding(lost):
        with pytest.raises(RunError, match="another process took over"):
            stopping.check()
        with pytest.raises(RunError, match="another process took over"):
            stopping.check_held()
    stopping.check_held()
