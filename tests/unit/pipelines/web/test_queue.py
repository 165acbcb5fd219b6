"""The queue on disk: no kill loses a job, and none runs for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import ConfigError
from pipelines.web.jobs import queue as queue_module
from pipelines.web.jobs.job import Job
from pipelines.web.jobs.queue import FILE, LOSSES, JobQueue

if TYPE_CHECKING:
    from pathlib import Path


def job(run: str | None = None) -> Job:
    return Job.new(["generate", "seconds=1"], run=run, title="a song")


def test_a_kill_loses_no_job(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    first, second = queue.add(job("a")), queue.add(job("b"))
    queue.change(first.id, "running")
    again = JobQueue(tmp_path)  # as after a kill
    assert [(each.id, each.status) for each in again.all()] == [(first.id, "waiting"), (second.id, "waiting")]
    assert again.next() == again.get(first.id)


def test_a_job_that_was_being_stopped_stays_stopped_after_a_kill(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    one = queue.add(job())
    queue.change(one.id, "running")
    queue.change(one.id, "stopping")
    assert JobQueue(tmp_path).next() is None


def test_the_same_run_is_queued_once(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    assert queue.add(job("a")) == queue.add(job("a"))
    assert len(queue.all()) == 1


def test_a_job_whose_process_is_lost_again_and_again_without_progress_fails(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    one = queue.add(job())
    for _ in range(10):  # with progress in between it goes on
        queue.change(one.id, "running")
        assert queue.lost(one.id, progressed=True).status == "waiting"
    for _ in range(LOSSES - 1):
        queue.change(one.id, "running")
        found = queue.lost(one.id, progressed=False)
    assert found.status == "failed"
    assert "worker.log" in found.error
    assert queue.resume(one.id).status == "waiting"


def test_jobs_that_are_over_are_bounded_and_so_are_those_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "KEPT", 4)
    queue = JobQueue(tmp_path)
    for _ in range(7):
        queue.change(queue.add(job()).id, "finished")
    assert len(queue.all()) == 4
    monkeypatch.setattr(queue_module, "MOST_WAITING", 1)
    queue.add(job())
    with pytest.raises(ConfigError, match="jobs wait, and no more than that may; stop some"):
        queue.add(job())


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{]")
    assert JobQueue(tmp_path).all() == []
    assert (tmp_path / f"{FILE}.damaged").read_text() == "{]"


def test_a_job_can_be_put_first(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    queue.add(job())
    last = queue.add(job())
    queue.first(last.id)
    found = JobQueue(tmp_path).next()
    assert found is not None
    assert found.id == last.id
