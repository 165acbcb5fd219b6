"""The one place that says how the stages of a flow are run, and how Prefect learns of it.

- ``recorded``: plain functions in this process, whose calls go into a journal. A thread, or a server that is started
  for it, reports to Prefect what the journal says. Nothing of that is waited for: the work begins at once.
- ``tasks``: Prefect tasks of a flow run, for workers that are processes of a Dask or Ray cluster: Prefect takes the
  stages to them, so its server is waited for.
- ``in_flow``: Prefect tasks of the flow run that calls this, as deployments do.
- ``plain``: plain functions and no record, for programs and notebooks.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from jukebox_core.base.processes import is_dead, own_name
from pipelines.orchestration import own_server, prefect_home
from pipelines.orchestration.follow import Follower
from pipelines.orchestration.journal import Journal, as_recorded, journaling
from pipelines.orchestration.recorder import END_SECONDS, recorded, waited, warn
from pipelines.orchestration.rest import Api
from pipelines.orchestration.stage_calls import Stages
from stages.stopping import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.settings.common import RunnerSettings

How = Literal["recorded", "tasks", "in_flow", "plain"]
log = logging.getLogger("jukebox")

POLL_SECONDS = 0.1  # between two looks at the journals
AWAY_SECONDS = 5.0  # until a server that was away is asked again

Result = TypeVar("Result")
S = TypeVar("S", bound=Stages)


def how_of(runner: RunnerSettings) -> How:
    """Returns how a command runs its stages with the workers of its settings."""
    return "recorded" if runner.kind == "threads" else "tasks"


def run_flow(
    name: str, config: dict[str, Any], stages: S, work: Callable[[S], Result], how: How, storage_root: str
) -> Result:
    """Returns the result of `work`, which is called with the stages as they are to be run.

    Args:
        name: of the flow.
        config: plain data that Prefect's pages show as its parameters.
        stages: as plain functions.
        work: calls them.
        how: see above.
        storage_root: the folder that Prefect's own is in.

    Raises:
        BaseException: what `work` raises.
        RunError: the server that the user named does not answer, or Prefect's folder cannot be used.
    """
    if how == "plain":
        return work(stages)
    if how == "recorded":
        return _record(name, config, stages, work, storage_root)
    from pipelines.orchestration.prefect_tasks import as_prefect_tasks

    if how == "in_flow":
        return work(as_prefect_tasks(stages))
    prefect_home.use(storage_root)
    return recorded(name, config, lambda: work(as_prefect_tasks(stages)))


def _record(name: str, config: dict[str, Any], stages: S, work: Callable[[S], Result], storage_root: str) -> Result:
    connection = prefect_home.connect(storage_root)
    journal = Journal(connection.home, name, config, connection.named)
    reporter = None if connection.url is None else _Reporter(connection, connection.url, journal)
    try:
        with journaling(journal):
            return work(as_recorded(stages, journal))
    except (KeyboardInterrupt, StoppedError):
        if connection.process is not None:
            own_server.dismiss(connection.process)  # the next one reads the journal
        raise
    finally:
        if journal.failure is not None:
            warn(journal.failure)
        elif reporter is not None:
            reporter.finish()
        elif connection.process is not None and connection.process.poll():
            warn(f"did not start: {own_server.last_line(connection.home)}")


class _Reporter:
    """A thread that reports to a server that runs already what this process writes to its journal."""

    def __init__(self, connection: prefect_home.Connection, url: str, journal: Journal) -> None:
        self._url, self._journal, self._process = url, journal, own_name()
        self._follower = Follower(connection.home, connection.named, Api(url, connection.password))
        self._over = threading.Event()  # the journal is complete
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._report, name="prefect-records", daemon=True)
        self._thread.start()

    def _report(self) -> None:
        while True:
            over = self._over.is_set()
            try:
                self._follower.step(mine=self._is_own, ended=self._is_own_or_dead if over else is_dead)
                self._failure = None
            except Exception as error:
                self._failure = error
                warn(error)
            if over:
                return
            self._over.wait(POLL_SECONDS if self._failure is None else AWAY_SECONDS)

    def _is_own(self, process: str) -> bool:
        return process == self._process

    def _is_own_or_dead(self, process: str) -> bool:
        return process == self._process or is_dead(process)

    def finish(self) -> None:
        """Waits until the record is complete: at most `END_SECONDS`, and not for a server that is away."""
        until = time.monotonic() + END_SECONDS
        self._over.set()

        def reported(seconds: float) -> bool:
            self._thread.join(seconds)
            return not self._thread.is_alive()

        if self._failure is None and not reported(own_server.SAY_SECONDS):
            log.info("waiting for Prefect's server, which is recording what was done")
        if self._failure is not None or not waited(reported, until, self._url) or self._journal.path.exists():
            warn(self._failure or "its answer takes too long")
