"""Keeps one worker process running and gives it the jobs of the queue. Imports no torch."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipelines.web.jobs.job import Job
    from pipelines.web.jobs.queue import JobQueue

log = logging.getLogger("jukebox")

LOG = "worker.log"
END_SECONDS = 35.0  # that a worker has to end: a job stores what it made first
PAUSE_SECONDS = (0.0, 0.5, 2.0, 10.0)  # before a worker that ended is replaced, by the times that it did so in a row
LINES = 400  # of the log that are kept in memory


class Supervisor:
    """The worker process, its jobs, and a thread that hears what it reports.

    A worker that ends, however that happens, is replaced, and its job goes on from what is stored.
    """

    def __init__(self, queue: JobQueue, folder: Path, heard: Callable[[dict[str, Any]], None]) -> None:
        """Prepares; `heard` is called with each report of progress and each line of the log."""
        self._queue, self._folder, self._heard = queue, folder, heard
        self._lock = threading.RLock()
        self._process: subprocess.Popen[str] | None = None
        self._ready = False
        self._current: str | None = None  # the job that the worker has
        self._progressed = False  # since it has it
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="supervisor", daemon=True)
        self.progress: dict[str, Any] = {}  # the newest, by job
        self.lines: list[str] = []  # of the log of the job that runs, or ran last

    @property
    def pid(self) -> int | None:
        """The worker's process; None while there is none."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    @property
    def is_ready(self) -> bool:
        """Whether the worker waits for a job, or has one."""
        return self._ready

    def start(self) -> None:
        """Starts the worker."""
        self._thread.start()

    def close(self) -> None:
        """Ends the worker; a job that runs is stopped in order, and waits for the next start."""
        self._closing.set()
        with self._lock:
            process = self._process
        if process is not None:
            _close(process)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.ident is not None:
            self._thread.join(END_SECONDS)

    def wake(self) -> None:
        """Gives the worker the next job, if it has none; called after a job was added."""
        with self._lock:
            if not self._ready or self._current is not None or self._closing.is_set():
                return
            job = self._queue.next()
            if job is not None:
                self._current, self._progressed = job.id, False
                self.lines.clear()
                self._queue.change(job.id, "running")
                self._order(do=job.id, arguments=list(job.arguments))

    def stop(self, identifier: str) -> Job:
        """Stops a job: one that waits at once, one that runs as soon as its tokens are stored; returns it.

        Raises:
            KeyError: there is no such job.
        """
        with self._lock:
            job = self._queue.get(identifier)
            if job is None:
                raise KeyError(identifier)
            if job.is_over:
                return job
            if identifier != self._current:
                return self._queue.change(identifier, "stopped")
            job = self._queue.change(identifier, "stopping")
            self._order(stop=identifier)
            return job

    def _serve(self) -> None:
        failures = 0
        while not self._closing.wait(PAUSE_SECONDS[min(failures, len(PAUSE_SECONDS) - 1)]):
            began = time.monotonic()
            with self._start() as process:
                for line in process[1]:
                    self._hear(json.loads(line))
                process[0].wait()
            self._lost(process[0].returncode)
            failures = 0 if time.monotonic() - began > 60 else failures + 1

    def _start(self) -> _Started:
        reads, writes = os.pipe()
        process = subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, "-m", "pipelines.web.jobs.worker", str(writes), str(self._folder / LOG)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writes],
            text=True,
            start_new_session=True,
        )
        os.close(writes)
        with self._lock:
            self._process = process
            if self._closing.is_set():
                _close(process)
        return _Started(process, reads)

    def _hear(self, report: dict[str, Any]) -> None:
        if "ready" in report:
            with self._lock:
                self._ready = True
            self.wake()
        elif "ended" in report:
            self._ended(report["ended"], report["status"], report["error"])
        elif "progress" in report:
            self._progressed = True
            self.progress = {report["progress"]: report["levels"]}
            self._heard(report)
        elif "log" in report:
            self.lines.append(report["log"])
            del self.lines[:-LINES]
            self._heard(report)

    def _ended(self, identifier: str, status: Any, error: str) -> None:
        with self._lock:
            self._current = None
            self.progress.pop(identifier, None)
            asked = self._queue.get(identifier)
            if asked is not None and status == "stopped" and asked.status == "running":
                self._queue.lost(identifier, progressed=True)  # this program ends, nobody asked for a stop: it waits
            elif asked is not None:
                self._queue.change(identifier, status, error=error)
        self.wake()

    def _lost(self, status: int | None) -> None:
        with self._lock:
            self._process, self._ready = None, False
            identifier, self._current = self._current, None
            if identifier is not None:
                job = self._queue.lost(identifier, progressed=self._progressed)
                log.warning("the process that samples ended (status %s) at %s; it is replaced", status, job.title)

    def _order(self, **content: Any) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError, ValueError):  # it ended: `_lost` puts its job back
                process.stdin.write(json.dumps(content) + "\n")
                process.stdin.flush()


class _Started:
    """A worker and the pipe of its reports; the block's end closes both."""

    def __init__(self, process: subprocess.Popen[str], reads: int) -> None:
        self._process, self._reports = process, os.fdopen(reads, encoding="utf-8", errors="replace")

    def __enter__(self) -> tuple[subprocess.Popen[str], Any]:
        return self._process, self._reports

    def __exit__(self, *_: object) -> None:
        self._reports.close()
        _close(self._process)


def _close(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        with suppress(OSError, ValueError):
            process.stdin.close()
