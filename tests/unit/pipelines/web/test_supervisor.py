"""The process that samples ends at any moment, in any way: no job is lost, none is run twice, none is blamed wrongly.

The workers here are small programs that follow a script, so that each moment is hit every time.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipelines.web.jobs import commands
from pipelines.web.jobs import supervisor as supervisor_module
from pipelines.web.jobs.job import Job
from pipelines.web.jobs.queue import FILE, LOSSES, JobQueue
from pipelines.web.jobs.supervisor import Supervisor
from pipelines.web.jobs.worker import Worker
from tests.helpers.patience import patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
BEGINNING = """
import json, os, pathlib, signal, sys, time
log = pathlib.Path(sys.argv[2])
begun = log.with_name("begun")
def say(**report): os.write(int(sys.argv[1]), json.dumps(report).encode() + b"\\n")
def order(): return json.loads(sys.stdin.readline() or sys.exit())
def die(): os.kill(os.getpid(), signal.SIGKILL)
def begin():
    given = order()
    with begun.open("a") as file: file.write(given["do"] + "\\n")
    say(began=given["do"])
    return given["do"]
def end(job, status="finished"): say(ended=job, status=status, error="")
lives = len(log.read_text()) if log.exists() else 0  # how many workers there were before this one
with log.open("a") as file: file.write("x")
"""
GO_ON = "\nwhile True: end(begin())\n"
SERVE = "say(ready=1)" + GO_ON

Made = tuple[JobQueue, Supervisor]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Made]]:
    """A queue with jobs, and the supervisor of workers that follow a script."""
    started: list[Supervisor] = []

    def making(script: str, jobs: int = 1) -> Made:
        monkeypatch.setattr(supervisor_module, "PROGRAM", ("-S", "-c", BEGINNING + script))
        monkeypatch.setattr(supervisor_module, "PAUSE_SECONDS", (0.0, 0.0))
        monkeypatch.setattr(supervisor_module, "LOOK_SECONDS", 0.02)
        queue = JobQueue(tmp_path)
        for number in range(jobs):
            queue.add(Job.new(["generate", f"seconds={number + 1}"], run=f"run{number}", title="a song"))
        one = Supervisor(queue, tmp_path, lambda _: None)
        started.append(one)
        one.start()
        return queue, one

    yield making
    for one in started:
        one.close()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + patience(20)
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def statuses(queue: JobQueue) -> set[str]:
    return {job.status for job in queue.all()}


def begun(folder: Path) -> list[str]:
    """The jobs that workers have begun, in order."""
    path = folder / "begun"
    return path.read_text().split() if path.exists() else []


def test_each_job_runs_once(make: Callable[..., Made], tmp_path: Path) -> None:
    queue, _ = make(SERVE, jobs=5)
    identifiers = [job.id for job in queue.all()]
    until(lambda: statuses(queue) == {"finished"})
    assert begun(tmp_path) == identifiers


@pytest.mark.parametrize(
    "death",
    [
        "begin(); die()",
        "order(); die()",  # it was handed over, and not begun
        "job = begin(); say(progress=job, levels={}); die()",
        'os.write(int(sys.argv[1]), b\'{"progress": "half a li\'); die()',
        "os.write(int(sys.argv[1]), b'\\xff\\n[]\\n7\\n{\"ended\": 1}\\n'); die()",
        "os.close(int(sys.argv[1])); begin()",  # it lives, and cannot report any more
    ],
)
def test_a_worker_that_dies_is_replaced_and_its_job_goes_on(make: Callable[..., Made], death: str) -> None:
    queue, _ = make(f"say(ready=1)\nif not lives: {death}\n" + GO_ON, jobs=2)
    until(lambda: statuses(queue) == {"finished"})


def test_a_job_that_ended_before_its_worker_died_is_not_run_again(make: Callable[..., Made], tmp_path: Path) -> None:
    queue, _ = make("say(ready=1)\nif not lives: end(begin()); die()\n" + GO_ON, jobs=2)
    first, second = (job.id for job in queue.all())
    until(lambda: statuses(queue) == {"finished"})
    assert begun(tmp_path) == [first, second]


def test_a_job_is_not_blamed_for_workers_that_died_before_they_began_it(make: Callable[..., Made]) -> None:
    queue, _ = make(f"say(ready=1)\nif lives < {LOSSES + 2}: order(); die()\n" + GO_ON)
    until(lambda: statuses(queue) == {"finished"})


def test_a_job_that_ends_each_worker_fails_and_the_next_one_runs(make: Callable[..., Made], tmp_path: Path) -> None:
    queue, _ = make(f"say(ready=1)\nif lives < {LOSSES}: begin(); die()\n" + GO_ON, jobs=2)
    bad, good = (job.id for job in queue.all())
    until(lambda: statuses(queue) == {"failed", "finished"})
    assert begun(tmp_path) == [bad] * LOSSES + [good]
    assert "see worker.log" in next(job.error for job in queue.all() if job.id == bad)


def test_a_process_that_the_worker_left_behind_does_not_keep_it_from_being_replaced(
    make: Callable[..., Made], tmp_path: Path
) -> None:
    child = tmp_path / "child"
    script = (
        f"if not lives and os.fork() == 0:\n    open({str(child)!r}, 'w').write(str(os.getpid()))\n    time.sleep(99)\n"
        f"say(ready=1)\nif not lives:\n    begin()\n    while not os.path.getsize({str(child)!r}): pass\n    die()\n"
    )
    child.touch()
    try:
        queue, _ = make(script + GO_ON)
        until(lambda: statuses(queue) == {"finished"})
        os.kill(int(child.read_text()), 0)  # it lives, and holds the pipe of the first worker
    finally:
        os.kill(int(child.read_text()), signal.SIGKILL)


def test_a_job_that_is_stopped_while_its_worker_dies_stays_stopped(make: Callable[..., Made], tmp_path: Path) -> None:
    queue, one = make("say(ready=1)\nif not lives: begin(); order(); die()\n" + GO_ON)
    [job] = queue.all()
    until(lambda: begun(tmp_path))
    one.stop(job.id)
    until(lambda: statuses(queue) == {"stopped"})
    assert begun(tmp_path) == [job.id]


def test_the_end_of_the_server_puts_the_job_back(make: Callable[..., Made], tmp_path: Path) -> None:
    queue, one = make("say(ready=1)\njob = begin()\nsys.stdin.read()\nend(job, 'stopped')\n", jobs=2)
    until(lambda: begun(tmp_path))
    one.close()
    assert [job.status for job in queue.all()] == ["waiting", "waiting"]
    assert [job.status for job in JobQueue(tmp_path).all()] == ["waiting", "waiting"]
    assert queue.all()[0].losses == 0


def test_a_full_disk_neither_ends_the_thread_nor_loses_a_job(
    make: Callable[..., Made], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue, one = make("say(ready=1)\njob = begin()\norder(); end(job, 'stopped')\n" + GO_ON, jobs=2)
    until(lambda: begun(tmp_path))
    (tmp_path / FILE).rename(tmp_path / "kept")
    (tmp_path / FILE).mkdir()  # it cannot be replaced now
    (tmp_path / FILE / "x").touch()
    with caplog.at_level(logging.WARNING, "jukebox"):
        one.stop(queue.all()[0].id)
        until(lambda: statuses(queue) == {"stopped", "finished"})
        with pytest.raises(OSError, match="cannot be written"):
            queue.add(Job.new(["generate"], run="other", title="a song"))
        with pytest.raises(OSError, match="cannot be written"):
            queue.resume(next(job.id for job in queue.all() if job.status == "stopped"))
    assert "stored at the next change" in caplog.text
    assert statuses(queue) == {"stopped", "finished"}
    assert len(queue.all()) == 2


class _Command:
    makes_run = False

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work


def test_a_stop_that_comes_before_the_job_has_begun_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(commands, "composed", lambda _: _Command(lambda: ran.append(1)))
    worker = Worker(io.StringIO())
    worker._stop("a")  # the order to stop is read while that to begin is still in the queue of the process
    assert worker._do("a", ["generate"]) == ("stopped", "")
    assert ran == []
    assert worker._do("a", ["generate"]) == ("finished", "")  # it was resumed


def test_a_stop_of_the_job_before_does_not_stop_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(io.StringIO())
    monkeypatch.setattr(commands, "composed", lambda _: _Command(lambda: worker._stop("a")))
    assert worker._do("b", ["generate"]) == ("finished", "")


def test_the_process_ends_with_its_parent_even_if_that_died_while_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"do": "a", "arguments": []}\n{"do": "b", "argu'))
    monkeypatch.setattr("threading.Timer.start", lambda _: None)
    worker = Worker(io.StringIO())
    worker.read_orders()
    assert worker._orders.get()["do"] == "a"  # type: ignore[index]
    assert worker._orders.get() is None
