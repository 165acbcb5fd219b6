"""Who samples: the flow itself, threads of it, or the processes of a Dask or Ray cluster. Prefect runs all of them.

Units are handed out one by one as workers become free, so the schedule decides at each moment, and no worker waits for
another one's window while it could do something else. A Dask or Ray worker that dies is replaced by its cluster, which
gives the unit to another: it resumes from the unit's stored tokens.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, cast

from jukebox_core.errors import ConfigError, DamagedError, RunError
from pipelines.orchestration import signals
from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefect import Task
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner

    from jukebox_core.sampling.schedule import Schedule, Unit
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.settings.common import RunnerSettings
    from stages.handles import TokensHandle
    from stages.sampling.sample import SamplingJob
    from stages.sampling.shard import WorkerContext

POLL_SECONDS = 0.2  # seconds between two looks at whether the run is to stop
STOP_GRACE_SECONDS = 5.0  # seconds that workers get to store what they have when the run is to stop
_LOST = 60.0  # seconds without a worker, or without the result of a task that ended, after which a cluster is given up
_LOOK = 2.0  # seconds between two looks at whether a cluster has workers
_PACKAGES = {"dask": "prefect_dask", "ray": "prefect_ray"}
_ENGINES = {"distributed": "Dask", "ray": "Ray"}  # by the package that their errors come from


def check_runner(runner: RunnerSettings) -> None:
    """Checks that what the runner needs is installed.

    Raises:
        ConfigError: it is not.
    """
    package = _PACKAGES.get(runner.kind)
    if package is not None and find_spec(package) is None:
        raise ConfigError(
            f"runner.kind is {runner.kind}, but its package is not installed; "
            f"pip install 'jukebox-pipelines[{runner.kind}]', or choose runner=threads"
        )


class Workers(Protocol):
    """Those that sample units, as many at a time as `count`."""

    count: int

    def submit(self, unit: Unit) -> None:
        """Hands a unit to a worker that is free."""
        ...

    def next_finished(self) -> tuple[Unit, list[TokensHandle]]:
        """Waits until a unit is sealed; returns it with the handles of its windows. Raises what its worker raised."""
        ...


def run_units(
    schedule: Schedule,
    workers: Workers,
    *,
    began: Callable[[Unit], None],
    ended: Callable[[Unit, list[TokensHandle]], None],
) -> None:
    """Has every unit of the schedule sampled; returns when nothing is left.

    Args:
        schedule: what is to be done, and in which order.
        workers: who does it.
        began: called when a unit was handed out.
        ended: called when all of a unit's windows are sealed.

    Raises:
        DamagedError: a unit read damaged tokens. Units that had begun are finished first.
        Exception: whatever else a worker raised; the others were asked to store what they have.
    """
    busy = 0
    while True:
        while busy < workers.count and (unit := schedule.take()) is not None:
            busy += 1
            began(unit)
            workers.submit(unit)
        if not busy:
            return
        try:
            unit, handles = workers.next_finished()
        except DamagedError:
            for _ in range(busy - 1):
                unit, handles = workers.next_finished()
                ended(unit, handles)
            raise
        busy -= 1
        schedule.finish(unit)
        ended(unit, handles)


@contextmanager
def open_workers(runner: RunnerSettings, stages: Stages, job: SamplingJob, context: WorkerContext) -> Iterator[Workers]:
    """Gives the workers that the settings ask for, and ends those that it started."""
    if runner.in_place:
        yield _InPlace(stages, job, context)
        return
    with ExitStack() as stack:
        if runner.kind != "threads":
            stack.enter_context(_shared_server())
        with _own_signals():
            started = stack.enter_context(_task_runner(runner))
        pool = _Pool(started, runner, stages, job, context)
        try:
            yield pool
        except BaseException:
            signals.cancel_alarm()  # workers are stopped in order; an interruption would leave some running
            pool.stop()
            raise


class _InPlace:
    """The flow's own process and thread: one unit at a time, done when it is handed over."""

    count = 1

    def __init__(self, stages: Stages, job: SamplingJob, context: WorkerContext) -> None:
        self._stages = stages
        self._job, self._context = job, context
        self._done: list[tuple[Unit, list[TokensHandle]]] = []

    def submit(self, unit: Unit) -> None:
        self._done.append((unit, self._stages.sample_unit(self._job, self._context, unit.nodes)))

    def next_finished(self) -> tuple[Unit, list[TokensHandle]]:
        return self._done.pop()


class _Pool:
    """Workers behind one of Prefect's task runners."""

    def __init__(
        self,
        runner: TaskRunner[Any],
        settings: RunnerSettings,
        stages: Stages,
        job: SamplingJob,
        context: WorkerContext,
    ) -> None:
        self.count, self._stages = settings.workers, stages
        self._runner, self._job, self._context = runner, job, context
        own = settings.address is None  # a cluster that this run started
        self._dask = getattr(runner, "client", None) if own else None
        self._last_alive = self._looked = time.monotonic()
        self._pending: dict[Any, tuple[Unit, PrefectFuture[Any]]] = {}  # by task run
        self._finished: queue.SimpleQueue[PrefectFuture[Any]] = queue.SimpleQueue()

    def submit(self, unit: Unit) -> None:
        given = {"job": self._job, "context": self._context, "nodes": unit.nodes}
        future = self._runner.submit(cast("Task[..., Any]", self._stages.sample_unit), given)
        self._pending[future.task_run_id] = (unit, future)
        future.add_done_callback(self._finished.put)

    def next_finished(self) -> tuple[Unit, list[TokensHandle]]:
        while True:
            stopping.check()
            try:
                future = self._finished.get(timeout=POLL_SECONDS)
            except queue.Empty:
                self._check_workers_alive()
                continue
            unit, _ = self._pending.pop(future.task_run_id)
            return unit, _result(future)

    def _check_workers_alive(self) -> None:
        """Looks whether there are workers: Dask replaces those that die, but not all that die while they start.

        Raises:
            RunError: there have been none for a while, and Dask would wait for ever.
        """
        now = time.monotonic()
        if self._dask is None or now - self._looked < _LOOK:
            return
        self._looked = now
        if self._dask.nthreads():
            self._last_alive = now
        elif now - self._last_alive > _LOST:
            raise _lost("Dask", f"no worker for {_LOST:g} s")

    def stop(self) -> None:
        """Asks those that sample to store what they have, and waits for them a little."""
        if not self._pending:
            return
        with _asked_to_stop(self._runner, [future for _, future in self._pending.values()]):
            while self._pending:
                try:
                    done = self._finished.get(timeout=STOP_GRACE_SECONDS)
                except queue.Empty:
                    return
                self._pending.pop(done.task_run_id)


def _result(future: PrefectFuture[list[TokensHandle]]) -> list[TokensHandle]:
    """Returns what a worker gave.

    Raises:
        RunError: its cluster could not give it to any worker.
        Exception: what the worker raised.
    """
    until = time.monotonic() + _LOST
    while True:
        stopping.check()
        try:
            return future.result(timeout=POLL_SECONDS)
        except TimeoutError as error:  # it ended, but the worker that had its result died, and nobody does it again
            if time.monotonic() > until:
                raise _lost("the cluster", f"no result for {_LOST:g} s") from error
        except Exception as error:
            engine = type(error).__module__.partition(".")[0]
            if engine not in _ENGINES:
                raise
            reason = str(error).strip().partition("\n")[0] or "no reason given"
            raise _lost(_ENGINES[engine], f"{type(error).__name__}: {reason}") from error


def _lost(engine: str, reason: str) -> RunError:
    return RunError(
        f"{engine} lost its workers or itself ({reason}); what they stored is kept: run the same command to continue"
    )


@contextmanager
def _asked_to_stop(runner: TaskRunner[Any], futures: list[PrefectFuture[Any]]) -> Iterator[None]:
    """Raises the flag of `stages.stopping` wherever workers look at it, for as long as the block takes."""
    client = getattr(runner, "client", None)  # Dask's
    if client is not None:
        client.run(stopping.request_stop)
        try:
            yield
        finally:
            client.run(stopping.clear_request)  # the cluster may outlive this run
    elif type(runner).__name__ == "RayTaskRunner":
        import ray

        for future in futures:
            ray.cancel(future.wrapped_future)  # type: ignore[attr-defined]  # a KeyboardInterrupt where it runs
        yield
    else:
        before = stopping.stop_requested()
        stopping.request_stop()
        try:
            yield
        finally:
            if not before:
                stopping.clear_request()


def _task_runner(runner: RunnerSettings) -> TaskRunner[Any]:
    """Returns the task runner that the settings ask for, not started."""
    made: TaskRunner[Any]
    if runner.kind == "dask":
        from prefect_dask.task_runners import DaskTaskRunner

        logging.getLogger("distributed").setLevel(logging.ERROR)
        here = {
            "n_workers": runner.workers,
            "threads_per_worker": 1,
            "processes": True,
            "scheduler_kwargs": {"dashboard": False},
        }
        made = DaskTaskRunner(address=runner.address, cluster_kwargs=None if runner.address else here)
    elif runner.kind == "ray":
        from prefect_ray.task_runners import RayTaskRunner

        here = {"num_cpus": runner.workers, "include_dashboard": False, "log_to_driver": False}
        made = RayTaskRunner(address=runner.address, init_kwargs=None if runner.address else here)
    else:
        from prefect.task_runners import ThreadPoolTaskRunner

        made = ThreadPoolTaskRunner(max_workers=runner.workers)
    return made


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps signals with those who handled them before the block: Ray takes SIGTERM for itself when it starts."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _shared_server() -> Iterator[None]:
    """Tells worker processes which Prefect server this process talks to, so that none starts one of its own."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with get_client(sync_client=True) as client:
        url = str(client.api_url)
    with temporary_settings({PREFECT_API_URL: url}):
        yield
