"""The runner: every worker is kept busy, failures are reported, and units in progress are not lost."""

from __future__ import annotations

import importlib.util
import time
from typing import TYPE_CHECKING, ClassVar

import pytest

from jukebox_core.errors import ConfigError, DamagedError, RunError, StoreError
from jukebox_core.sampling.schedule import Schedule, Unit
from jukebox_core.tokens.graph import Node, Span
from jukebox_core.tokens.plan import Window
from pipelines.execution import runner
from pipelines.execution.runner import check_runner, run_units
from pipelines.settings.common import RunnerSettings

if TYPE_CHECKING:
    from stages.handles import TokensHandle


def unit(shard: int, index: int) -> Unit:
    """Window `index` of one song at the top level, which reads the one before."""
    key = f"{shard}-{index}"
    reads = (Span(f"{shard}-{index - 1}", 10 * index - 5, 10 * index),) if index else ()
    return Unit(shard, (Node(2, shard, Window(10 * index, 10 * index, 10 * index + 10), {"reads": reads}, {}, key),))


class Crew:
    """Workers that finish the unit begun first, or fail at it."""

    def __init__(self, count: int, failures: dict[str, Exception] | None = None) -> None:
        self.count, self._failures = count, failures or {}
        self._running: list[Unit] = []
        self.most = 0

    def submit(self, unit: Unit) -> None:
        self._running.append(unit)
        self.most = max(self.most, len(self._running))

    def next_finished(self) -> tuple[Unit, list[TokensHandle]]:
        done = self._running.pop(0)
        failure = self._failures.get(next(iter(done.keys)))
        if failure is not None:
            raise failure
        return done, []


def work(crew: Crew, songs: int = 3, windows: int = 3) -> tuple[list[str], list[str]]:
    """Runs all windows of some songs; returns the keys that were started and those that were finished."""
    units = [unit(shard, index) for shard in range(songs) for index in range(windows)]
    schedule = Schedule(units, {key for each in units for key in each.keys}, "by_level")
    began: list[str] = []
    ended: list[str] = []
    try:
        run_units(schedule, crew, on_submit=lambda u: began.extend(u.keys), on_sealed=lambda u, _: ended.extend(u.keys))
    except (DamagedError, StoreError):
        assert schedule.open
    return began, ended


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_as_many_units_as_workers_run_in_parallel(count: int) -> None:
    crew = Crew(count)
    began, ended = work(crew)
    assert crew.most == min(count, 3)  # windows of a song are sequential
    assert sorted(began) == sorted(ended) == [f"{shard}-{index}" for shard in range(3) for index in range(3)]


def test_started_units_are_finished_when_damage_is_found() -> None:
    began, ended = work(Crew(3, {"0-1": DamagedError("damaged")}))
    assert began == ["0-0", "1-0", "2-0", "0-1", "1-1", "2-1"]
    assert ended == ["0-0", "1-0", "2-0", "1-1", "2-1"]


def test_any_other_failure_ends_the_run_at_once() -> None:
    began, ended = work(Crew(3, {"1-0": StoreError("away")}))
    assert began == ["0-0", "1-0", "2-0", "0-1"]
    assert ended == ["0-0"]


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_runner_whose_package_is_missing_is_refused_with_the_remedy(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "find_spec", lambda name: None if kind in name else importlib.util.find_spec(name))
    check_runner(RunnerSettings())
    with pytest.raises(ConfigError, match=rf"pip install 'jukebox-pipelines\[{kind}\]', or choose runner=threads"):
        check_runner(RunnerSettings(kind=kind))  # type: ignore[arg-type]


class Lost:
    """A task whose result was lost with its worker."""

    def result(self, timeout: float) -> None:
        raise TimeoutError(f"did not complete within {timeout} seconds")


def test_a_result_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_LOST_SECONDS", 0.01)
    with pytest.raises(RunError, match=r"lost its workers or itself \(no result for 0.01 s\); .*the same command"):
        runner._result(Lost())  # type: ignore[arg-type]


def test_a_cluster_without_workers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cluster:
        workers: ClassVar = {"one": 1}

        def nthreads(self) -> dict[str, int]:
            return self.workers

    class Started:
        client = Cluster()

    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "_ALIVE_SECONDS", 0.0)
    monkeypatch.setattr(runner, "_LOST_SECONDS", 0.05)
    pool = runner._Pool(Started(), RunnerSettings(kind="dask"), None, None, None)  # type: ignore[arg-type]
    for _ in range(10):
        pool._check_workers_alive()
        time.sleep(0.01)
    Cluster.workers = {}
    with pytest.raises(RunError, match="Dask lost its workers or itself"):
        pool.next_finished()


class CommClosedError(OSError):
    """As Dask raises it."""

    __module__ = "distributed.comm.core"


def test_an_error_of_a_cluster_is_explained_wherever_it_is_raised() -> None:
    with (
        pytest.raises(RunError, match=r"Dask lost its workers or itself \(CommClosedError: Address removed\.\)"),
        runner._cluster_errors(),
    ):
        raise CommClosedError("Address removed.")


def test_a_cluster_that_does_not_start_is_explained_whatever_it_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: RunnerSettings) -> None:
        raise Exception("The current node timed out during startup.\nSee the logs.")  # noqa: TRY002 - as Ray does

    monkeypatch.setattr(runner, "_task_runner", fail)
    with (
        pytest.raises(RunError, match=r"runner=ray did not start \(The current node timed out during startup\.\); run"),
        runner.open_workers(RunnerSettings(kind="ray"), None, None, None),  # type: ignore[arg-type]
    ):
        pass


def test_a_cluster_that_fails_again_while_it_is_shut_down_does_not_hide_the_first_error() -> None:
    with pytest.raises(RunError, match="no worker for"), runner._cluster_errors():  # noqa: PT012 - two errors
        try:
            raise RunError("no worker for 30 s")
        finally:
            raise CommClosedError("Address removed.")
