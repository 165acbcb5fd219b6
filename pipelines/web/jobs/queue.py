"""The queue of jobs, in memory and on disk: what waits, what runs, and the last ones that are over. Imports no torch.

The file is replaced at every change of a status, so that a kill loses none of them. A job that was running then waits
again, at the head of the queue: its run continues from its stored tokens.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.records import dump_record, read_record, set_aside
from jukebox_core.base.structuring import build
from jukebox_core.errors import ConfigError, JukeboxError, RecordError
from pipelines.web.jobs.job import Job  # noqa: TC001  records are built by reading annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pipelines.web.jobs.job import Status

log = logging.getLogger("jukebox")

FILE = "queue.json"
SCHEMA = 1
KEPT = 100  # jobs that are over
MOST_WAITING = 200
LOSSES = 3  # of its process, without progress in between, after which a job fails


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    extensible: ClassVar[bool] = True
    schema: int
    jobs: tuple[Job, ...]


class JobQueue:
    """The jobs of one storage folder. Its methods may be called by several threads."""

    def __init__(self, folder: Path, changed: Callable[[Job], None] = lambda _: None) -> None:
        """Reads the queue in `folder`; `changed` is called with each job that changes."""
        self._path, self._changed = folder / FILE, changed
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        for job in _read(self._path):
            if job.status == "stopping":
                job = job.becomes("stopped")
            self._jobs[job.id] = job.becomes("waiting") if job.status == "running" else job

    def all(self) -> list[Job]:
        """Returns every job: those that run, those that wait in their order, and those that are over, newest first."""
        with self._lock:
            jobs = list(self._jobs.values())
        over = sorted((job for job in jobs if job.is_over), key=lambda job: job.ended, reverse=True)
        return [*(j for j in jobs if j.status in ("running", "stopping")), *(j for j in jobs if _waits(j)), *over]

    def get(self, identifier: str) -> Job | None:
        """Returns the job with this identifier; None if there is none."""
        with self._lock:
            return self._jobs.get(identifier)

    def of_run(self, run: str) -> Job | None:
        """Returns the job that makes this run, or will; None if there is none."""
        with self._lock:
            return next((job for job in self._jobs.values() if job.run == run and not job.is_over), None)

    def add(self, job: Job) -> Job:
        """Adds a job at the end; returns it, or the job that makes its run already.

        Raises:
            ConfigError: too many wait.
            DiskError: the queue cannot be stored; the job is not in it then.
        """
        with self._lock:
            known = None if job.run is None else self.of_run(job.run)
            if known is not None:
                return known
            if sum(_waits(each) for each in self._jobs.values()) >= MOST_WAITING:
                raise ConfigError(
                    f"{MOST_WAITING} jobs wait, and no more than that may; stop some, or wait until some are over"
                )
            return self._put(job, stored=True)

    def next(self) -> Job | None:
        """Returns the job that is to run next; None if none waits."""
        with self._lock:
            return next((job for job in self._jobs.values() if _waits(job)), None)

    def change(self, identifier: str, status: Status, **fields: Any) -> Job:
        """Gives a job another status; returns it.

        Raises:
            KeyError: there is no such job.
        """
        with self._lock:
            return self._put(self._jobs[identifier].becomes(status, **fields))

    def lost(self, identifier: str, *, progressed: bool) -> Job:
        """Puts a job whose process ended back at the head of the queue; returns it.

        One that was being stopped is stopped; one whose process ended `LOSSES` times without progress has failed.
        """
        with self._lock:
            job = self._jobs[identifier]
            losses = 1 if progressed else job.losses + 1
            if losses < LOSSES or job.status == "stopping":
                return self.put_back(identifier, losses=losses)
            error = f"the process that ran it ended {losses} times; see worker.log, and resume it"
            return self._put(job.becomes("failed", error=error, losses=0))

    def put_back(self, identifier: str, **fields: Any) -> Job:
        """Puts a job that did not run to its end back, where it was in the queue; returns it.

        One that was being stopped is stopped.
        """
        with self._lock:
            job = self._jobs[identifier]
            return self._put(job.becomes("stopped" if job.status == "stopping" else "waiting", **fields))

    def resume(self, identifier: str) -> Job:
        """Puts a job that stopped or failed at the end of the queue; returns it, or the job that makes its run already.

        Raises:
            KeyError: there is no such job.
            ConfigError, DiskError: as `add`; the job stays as it is.
        """
        with self._lock:
            before = self._jobs
            job = before[identifier]
            if not job.is_over:
                return job
            self._jobs = {name: each for name, each in before.items() if name != identifier}
            try:
                return self.add(job.becomes("waiting", losses=0, error="", ended=""))
            except JukeboxError:
                self._jobs = before
                raise

    def first(self, identifier: str) -> Job:
        """Puts a job that waits before the others that wait; returns it.

        Raises:
            KeyError: there is no such job.
        """
        with self._lock:
            job = self._jobs.pop(identifier)
            self._jobs = {identifier: job, **self._jobs}
            return self._put(job)

    def _put(self, job: Job, *, stored: bool = False) -> Job:
        """Keeps a job in memory, and the queue on disk: what happened has happened, whether that can be stored or not.

        With `stored`, a job that cannot be stored is not kept either.
        """
        before, self._jobs = self._jobs, {**self._jobs, job.id: job}
        over = sorted((each for each in self._jobs.values() if each.is_over), key=lambda each: each.ended)
        for each in over[:-KEPT]:
            del self._jobs[each.id]
        data = dump_record({"schema": SCHEMA, "jobs": [asdict(each) for each in self._jobs.values()]})
        try:
            with atomic_write(self._path) as file:
                file.write(data)
        except OSError as error:
            if stored:
                self._jobs = before
                raise
            log.warning("%s; the queue goes on, and is stored at the next change", error)
        self._changed(job)
        return job


def _waits(job: Job) -> bool:
    return job.status == "waiting"


def _read(path: Path) -> Iterable[Job]:
    """Returns the jobs in a file; none if there is no file. A damaged one is set aside."""
    try:
        return build(_File, read_record(path, _File, SCHEMA)).jobs
    except FileNotFoundError:
        return ()
    except (RecordError, ConfigError) as error:
        log.warning("%s; it is kept as %s, and the queue is empty", error, set_aside(path).name)
        return ()
