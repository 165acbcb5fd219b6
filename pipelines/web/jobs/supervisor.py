"""Keeps one worker process running and gives it the jobs of the queue. Imports no torch."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from pipelines.web.jobs.queue import MOST_WAITING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pipelines.web.jobs.job import Job
    from pipelines.web.jobs.queue import JobQueue

log = logging.getLogger("jukebox")

LOG = "worker.log"
END_SECONDS = 35.0  # that a worker has to end: a job stores what it made first
PAUSE_SECONDS = (0.0, 0.5, 2.0, 10.0)  # before a worker that ended is replaced, by the times that it did so in a row
LINES = 400  # of the log that are kept in memory
LOOK_SECONDS = 0.5  # between two looks whether the worker lives, while it reports nothing
PROGRAM = ("-m", "pipelines.web.jobs.worker")


class Supervisor:
    """The worker process, its jobs, and a thread that hears what it reports.

    A worker that ends, however that happens, is replaced, and its job goes on from what is stored.
    """

    def __init__(
        self, queue: JobQueue, folder: Path, heard: Callable[[dict[str, Any]], None], warm: Sequence[str] = ()
    ) -> None:
        """Prepares.

        Args:
            queue: the jobs.
            folder: of the worker's log.
            heard: called with each report of progress and each line of the log.
            warm: a command whose models a new worker loads before it is asked for anything; empty: none.
        """
        self._warm = warm
        self._queue, self._folder, self._heard = queue, folder, heard
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._current: str | None = None  # the job that the worker has
        self._began = False  # the worker has begun it
        self._progressed = False  # since then
        self._known: dict[str, str] = {}  # composed commands, by job
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
                self._current, self._began, self._progressed = job.id, False, False
                self.lines.clear()
                self._queue.change(job.id, "running")
                self._order(do=job.id, arguments=list(job.arguments), packed=self._known.pop(job.id, None))

    def know(self, job: Job, packed: str) -> None:
        """Remembers the composed command of a job that waits, so that the worker need not compose it again."""
        with self._lock:
            self._known[job.id] = packed
            while len(self._known) > MOST_WAITING:
                del self._known[next(iter(self._known))]

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
            try:
                with self._start() as worker:
                    for line in worker.reports():
                        self._heard_line(line)
            except OSError as error:  # of starting it: too many processes, no memory
                log.warning("the process that samples cannot be started (%s); it is tried again", error)
            progressed = self._progressed
            self._lost()
            failures = 0 if progressed or time.monotonic() - began > 60 else failures + 1

    def _start(self) -> _Started:
        self._progressed = False
        reads, writes = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: S603 - ours
                [sys.executable, *PROGRAM, str(writes), str(self._folder / LOG)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[writes],
                start_new_session=True,
            )
        except OSError:
            os.close(reads)
            raise
        finally:
            os.close(writes)
        with self._lock:
            self._process = process
            if self._closing.is_set():
                _close(process)
        return _Started(process, reads)

    def _heard_line(self, line: bytes) -> None:
        """Hears one report; what goes wrong with it must not end the thread, without which no worker is replaced."""
        try:
            self._hear(json.loads(line))
        except (ValueError, KeyError, TypeError):  # the worker was killed while it wrote the line
            log.warning("the process that samples reported %r, which is no report", line[:80])
        except Exception:
            log.exception("a report of the process that samples")

    def _hear(self, report: dict[str, Any]) -> None:
        if "ready" in report:
            with self._lock:
                self._ready = True
                if self._warm and self._queue.next() is None:
                    self._order(warm=list(self._warm))
            self.wake()
        elif "began" in report:
            with self._lock:
                self._began = report["began"] == self._current
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
                self._queue.put_back(identifier)  # this program ends, nobody asked for a stop
            elif asked is not None:
                self._queue.change(identifier, status, error=error)
        self.wake()

    def _lost(self) -> None:
        """Puts back the job of a worker that has ended; one that it had not begun is not blamed for that."""
        with self._lock:
            process, self._process, self._ready = self._process, None, False
            identifier, self._current = self._current, None
            if identifier is None:
                return
            self.progress.pop(identifier, None)
            if self._began:
                job = self._queue.lost(identifier, progressed=self._progressed)
            else:
                job = self._queue.put_back(identifier)
            status = None if process is None else process.returncode
            log.warning("the process that samples ended (status %s) at %s; it is replaced", status, job.title)

    def _order(self, **content: Any) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError, ValueError):  # it ended: `_lost` puts its job back
                process.stdin.write(json.dumps(content).encode() + b"\n")
                process.stdin.flush()


class _Started:
    """A worker and the pipe of its reports; the block's end closes both, and waits for the worker."""

    def __init__(self, process: subprocess.Popen[bytes], reads: int) -> None:
        self._process, self._reads = process, reads

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._reads)
        _close(self._process)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def reports(self) -> Iterator[bytes]:
        """Yields the lines that the worker reports until it has ended.

        The end of the pipe alone does not say so: a process that the worker forked may hold it open for ever.
        """
        rest = b""
        while True:
            lives = self._process.poll() is None  # before the look: what it wrote until then is read below
            while select.select([self._reads], [], [], LOOK_SECONDS if lives else 0)[0]:
                read = os.read(self._reads, 1 << 16)
                if not read:
                    return
                *lines, rest = (rest + read).split(b"\n")
                yield from lines
                lives = lives and self._process.poll() is None
            if not lives:
                return


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError, ValueError):
            process.stdin.close()
