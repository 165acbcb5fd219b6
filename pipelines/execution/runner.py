"""Workers that sample units: the flow's own thread, a pool of threads, or the processes of a Dask or Ray cluster.

Prefect takes units to the processes of clusters. Units are submitted one by one as workers become free, so that the
schedule decides at each moment, and no worker waits for a window of another while it could sample a different one. A
Dask or Ray worker that dies is replaced by its cluster, which retries the unit on another worker; it resumes from the
stored tokens.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import os
import queue
import secrets
import signal
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, Self

from jukebox_core.errors import ConfigError, DamagedError, JukeboxError, RunError
from pipelines.orchestration import recorder, signals
from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefect.futures import PrefectFuture

    from jukebox_core.sampling.schedule import Schedule, Unit
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.settings.common import RunnerSettings
    from stages.handles import TokensHandle
    from stages.sampling.sample import SamplingJob
    from stages.sampling.shard import WorkerContext

POLL_SECONDS = 0.2  # between two checks of the stop flag
STOP_GRACE_SECONDS = 5.0  # for workers to store their tokens when the run stops
_LOST_SECONDS = 60.0  # timeout of a cluster without a worker, or without the result of a task that ended
_ALIVE_SECONDS = 2.0  # between two checks whether a cluster has workers
_WORKER_LOGGING = ("PREFECT_LOGGING_LEVEL", "PREFECT_LOGGING_INTERNAL_LEVEL", "PREFECT_LOGGING_ROOT_LEVEL")
_PACKAGES = {"dask": "prefect_dask", "ray": "prefect_ray"}
_ENGINES = {"distributed": "Dask", "ray": "Ray"}  # by the package that their errors come from


def check_runner(runner: RunnerSettings) -> None:
    """Checks that the runner's package is installed.

    Raises:
        ConfigError: it is not installed.
    """
    package = _PACKAGES.get(runner.kind)
    if package is not None and find_spec(package) is None:
        raise ConfigError(
            f"runner.kind is {runner.kind}, but its package is not installed; "
            f"pip install 'jukebox-pipelines[{runner.kind}]', or choose runner=threads"
        )


class Workers(Protocol):
    """Workers that sample units, at most `count` in parallel."""

    count: int

    def submit(self, unit: Unit) -> None:
        """Submits a unit to a free worker."""
        ...

    def next_finished(self) -> tuple[Unit, list[TokensHandle]]:
        """Waits until a unit is sealed; returns it with the handles of its windows. Re-raises its worker's error."""
        ...


def run_units(
    schedule: Schedule,
    workers: Workers,
    *,
    on_submit: Callable[[Unit], None],
    on_sealed: Callable[[Unit, list[TokensHandle]], None],
) -> None:
    """Samples every unit of the schedule; returns when none is left.

    Args:
        schedule: the units and their order.
        workers: sample them.
        on_submit: called before a unit is submitted.
        on_sealed: called when all of a unit's windows are sealed.

    Raises:
        DamagedError: a unit read damaged tokens. Units that had started are finished first.
        Exception: any other error of a worker; the others were asked to store their tokens.
    """
    busy = 0
    while True:
        while busy < workers.count and (unit := schedule.take()) is not None:
            busy += 1
            on_submit(unit)
            workers.submit(unit)
        if not busy:
            return
        try:
            unit, handles = workers.next_finished()
        except DamagedError:
            for _ in range(busy - 1):
                unit, handles = workers.next_finished()
                on_sealed(unit, handles)
            raise
        busy -= 1
        schedule.finish(unit)
        on_sealed(unit, handles)


@contextmanager
def open_workers(runner: RunnerSettings, stages: Stages, job: SamplingJob, context: WorkerContext) -> Iterator[Workers]:
    """Yields the workers of the settings; shuts down those that it started."""
    if runner.in_place:
        yield _InPlace(stages, job, context)
        return
    with _cluster_errors(), ExitStack() as stack:
        with _signal_handlers_kept(), _start_errors(runner):
            started = stack.enter_context(_task_runner(runner))
        pool = _Pool(started, runner, stages, job, context)
        try:
            yield pool
        except BaseException:
            signals.cancel_alarm()  # an alarm now would interrupt the shutdown and leave workers running
            pool.stop()
            raise
        finally:
            pool.leave()


class _InPlace:
    """The flow's own thread as the only worker: a unit is sampled when it is submitted."""

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
    """Workers behind a task runner: threads, or one of Prefect's."""

    def __init__(
        self,
        runner: Any,
        settings: RunnerSettings,
        stages: Stages,
        job: SamplingJob,
        context: WorkerContext,
    ) -> None:
        self.count, self._stages = settings.workers, stages
        self._runner, self._job, self._context = runner, job, context
        own = settings.address is None  # a cluster that this run started
        self._dask = getattr(runner, "client", None) if own else None
        self._last_alive = self._checked = time.monotonic()
        self._pending: dict[Any, tuple[Unit, PrefectFuture[Any]]] = {}  # by task run
        self._finished: queue.SimpleQueue[PrefectFuture[Any]] = queue.SimpleQueue()

    def submit(self, unit: Unit) -> None:
        given = {"job": self._job, "context": self._context, "nodes": unit.nodes}
        future = self._runner.submit(self._stages.sample_unit, given)
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
        """Checks that the cluster has workers: Dask replaces those that die, but not all that die while they start.

        Raises:
            RunError: it has had none for `_LOST_SECONDS`, and Dask would wait for ever.
        """
        now = time.monotonic()
        if self._dask is None or now - self._checked < _ALIVE_SECONDS:
            return
        self._checked = now
        if self._dask.nthreads():
            self._last_alive = now
        elif now - self._last_alive > _LOST_SECONDS:
            raise _lost("Dask", f"no worker for {_LOST_SECONDS:g} s")

    def leave(self) -> None:
        """Lets the workers of a cluster that this run started end soon, also if Prefect's server is away."""
        if self._dask is not None:
            with suppress(Exception):  # they may be lost
                self._dask.run(recorder.leave_soon)

    def stop(self) -> None:
        """Requests a stop of all running units, and waits at most `STOP_GRACE_SECONDS` for each to store its tokens."""
        if not self._pending:
            return
        with _stop_requested(self._runner, [future for _, future in self._pending.values()]):
            while self._pending:
                try:
                    done = self._finished.get(timeout=STOP_GRACE_SECONDS)
                except queue.Empty:
                    return
                self._pending.pop(done.task_run_id)


def _result(future: PrefectFuture[list[TokensHandle]]) -> list[TokensHandle]:
    """Returns the result of a unit's future.

    Raises:
        RunError: the cluster lost its workers, or the result.
        Exception: the worker's error.
    """
    until = time.monotonic() + _LOST_SECONDS
    while True:
        stopping.check()
        try:
            return future.result(timeout=POLL_SECONDS)
        except TimeoutError as error:  # it ended, but its worker died with the result, and no other retries it
            if time.monotonic() > until:
                raise _lost("the cluster", f"no result for {_LOST_SECONDS:g} s") from error


@contextmanager
def _cluster_errors() -> Iterator[None]:
    """Turns errors of a cluster's own package into RunError, wherever in the block, or at its end, they are raised.

    A cluster that is lost may fail again when it is shut down; then the first error is the one that is raised.
    """
    try:
        yield
    except Exception as error:
        engine = type(error).__module__.partition(".")[0]
        if engine not in _ENGINES:
            raise
        if isinstance(error.__context__, JukeboxError):
            raise error.__context__ from None
        reason = str(error).strip().partition("\n")[0] or "no reason given"
        raise _lost(_ENGINES[engine], f"{type(error).__name__}: {reason}") from error


@contextmanager
def _start_errors(runner: RunnerSettings) -> Iterator[None]:
    """Turns whatever the start of a cluster raises into RunError: Ray raises bare exceptions on a busy machine."""
    try:
        yield
    except JukeboxError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        raise RunError(
            f"runner={runner.kind} did not start ({reason}); run the same command again, or choose runner=threads"
        ) from error


def _lost(engine: str, reason: str) -> RunError:
    return RunError(
        f"{engine} lost its workers or itself ({reason}); what they stored is kept: run the same command to continue"
    )


@contextmanager
def _stop_requested(runner: Any, futures: list[PrefectFuture[Any]]) -> Iterator[None]:
    """Sets the flag of `stages.stopping` in every worker process for the duration of the block."""
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


class _Threads:
    """Threads of this process, in the form of a task runner of Prefect's."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, "sampling")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, stage: Callable[..., Any], given: dict[str, Any]) -> Future[Any]:
        """Calls a stage in a thread, in the context of the caller; its future has a number as a task run has."""
        future = self._pool.submit(contextvars.copy_context().run, functools.partial(stage, **given))
        future.task_run_id = uuid.uuid4()  # type: ignore[attr-defined]
        return future


def _task_runner(runner: RunnerSettings) -> Any:
    """Returns the task runner of the settings, not started."""
    made: Any
    if runner.kind == "dask":
        from prefect_dask.task_runners import DaskTaskRunner

        logging.getLogger("distributed").setLevel(logging.ERROR)
        made = DaskTaskRunner(address=runner.address, cluster_kwargs=None if runner.address else _own_dask(runner))
    elif runner.kind == "ray":
        if runner.address is None:
            close_own_ray()
        from prefect_ray.task_runners import RayTaskRunner

        here = {"num_cpus": runner.workers, "include_dashboard": False, "log_to_driver": False}
        made = RayTaskRunner(address=runner.address, init_kwargs=None if runner.address else here)
    else:
        made = _Threads(runner.workers)
    return made


def close_own_ray() -> None:
    """Closes a Ray cluster that this process is going to start to strangers, before Ray is imported.

    Its processes read the environment: Ray's token, and the switch for clusters of one machine, whose every port is on
    loopback, also those of metrics, which ask for no token. Ray does not take a loopback address as an option.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def _own_dask(runner: RunnerSettings) -> dict[str, Any]:
    """Returns the options of a Dask cluster that this run starts: closed to strangers, as its workers run any code.

    Scheduler and workers listen on loopback, accept only certificates made for this cluster, and show no pages.
    """
    import dask

    dask.config.set({"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []})
    nowhere = "127.0.0.1:0"  # each starts a server of pages in any case
    return {
        "n_workers": runner.workers,
        "threads_per_worker": 1,
        "processes": True,
        "host": "127.0.0.1",
        "protocol": "tls://",
        "security": True,
        "dashboard_address": None,
        "worker_dashboard_address": nowhere,
        "scheduler_kwargs": {"dashboard": False, "dashboard_address": nowhere},
        "env": dict.fromkeys(_WORKER_LOGGING, "CRITICAL"),
    }


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Restores the signal handlers after the block: Ray installs its own for SIGTERM when it starts."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            signal.signal(number, handler)
