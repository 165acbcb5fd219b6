"""Flow runs whose stages are Prefect tasks, since they run on a Dask or Ray cluster; artifacts of all of Prefect's own.

The token store decides what is done; Prefect shows it. Such a flow run is therefore held open by a thread of its own,
so that the work never waits for the server without a bound, while the work is done in the calling thread, inside the
same context, so that its stages are task runs. Artifacts are published by another thread. If the server is away or
busy, one warning is logged and the work goes on; what could not be recorded at the end is written to a file, which the
next command reads (`pipelines.orchestration.reconcile`).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import logging
import os
import queue
import sys
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pipelines.orchestration import own_server, prefect_home, reconcile

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from pipelines.orchestration.journal import Kind

log = logging.getLogger("jukebox")

BEGIN_SECONDS = 15.0  # that a command waits at most, for a slow server, until its flow run has begun
END_SECONDS = 30.0  # that it waits at most, for a slow server, until everything is recorded
LEAVE_SECONDS = 2.0  # that a worker of a cluster waits at most, when it ends, until its events are sent
STEP_SECONDS = 1.0  # after which the server is asked whether it works; if not, there is no more waiting
ASK_SECONDS = 2.5  # that it has to answer
_IMPORTED = (  # before threads begin: modules of Prefect import each other, which fails in two threads at a time
    "prefect.client.orchestration",
    "prefect.client.schemas.actions",
    "prefect.client.schemas.filters",
    "prefect.events.worker",
    "prefect.flow_engine",
    "prefect.states",
    "prefect.task_engine",
)

Result = TypeVar("Result")
_warned = threading.Event()
_abandoned = threading.Event()  # threads of Prefect's wait for a server that is away


def warn(reason: object) -> None:
    """Logs, once in a process, that Prefect's server cannot record what is done."""
    if not _warned.is_set():
        _warned.set()
        said = " ".join(str(reason).split())[:200] or type(reason).__name__
        what = "cannot store a name" if isinstance(reason, UnicodeError) else "does not answer"
        log.warning("Prefect's server %s (%s); the work goes on, but its pages may not show it", what, said)


def recorded(name: str, config: dict[str, Any], work: Callable[[], Result]) -> Result:
    """Calls `work` in this thread, as a flow run of Prefect's if its server answers; returns its result.

    Meanwhile flow runs of killed processes are reconciled.

    Args:
        name: of the flow.
        config: plain data that Prefect's pages show as its parameter.
        work: the work. It runs in any case; its task runs have no tags, as Prefect would ask for a slot for each.

    Raises:
        BaseException: what `work` raises, and nothing of Prefect's.
    """
    held = _HeldRun(name, config)
    context = held.begin()
    if context is not None:
        context.run(post, "reconcile", reconcile.reconcile)
    try:
        result = work() if context is None else context.run(work)
    except BaseException as error:
        held.end(error)
        raise
    held.end(None)
    return result


class _HeldRun:
    """A flow run that a thread holds open until `end`."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        self._name, self._config = name, config
        self._begun = threading.Event()
        self._context: contextvars.Context | None = None
        self._outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._error: BaseException | None = None  # of the work
        self._failure: BaseException | None = None  # of Prefect
        self._sending: set[concurrent.futures.Future[bool]] = set()
        self._id: str | None = None
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._hold,), name="prefect-flow-run", daemon=True
        )

    def begin(self) -> contextvars.Context | None:
        """Starts the flow run; returns the context for its work, or None if it has not begun in time."""
        for module in _IMPORTED:
            import_module(module)
        _quieten()
        self._thread.start()
        until = time.monotonic() + BEGIN_SECONDS
        if not waited(lambda seconds: self._begun.wait(seconds), until, _server()):
            _abandoned.set()
            warn("its answer takes too long")
        elif self._context is None:
            warn(self._failure)
        return self._context

    def end(self, error: BaseException | None) -> None:
        """Lets the flow run end, with the error of its work if that failed; waits at most `END_SECONDS`."""
        until = time.monotonic() + END_SECONDS
        self._outcome.put(error)
        if waited(self._all_done, until, _server()) and self._failure is None:
            return
        warn(self._failure or "its answer takes too long")
        _abandoned.set()
        if self._id is not None:
            try:
                reconcile.note_end(self._id, "COMPLETED" if error is None else "FAILED")
            except OSError as failed:
                log.debug("the end of flow run %s was not noted: %s", self._id, failed)

    def _all_done(self, seconds: float) -> bool:
        """Whether the flow run has ended, and artifacts and states of its tasks have been sent, within `seconds`."""
        until = time.monotonic() + seconds
        self._thread.join(seconds)
        if self._thread.is_alive() or not drain(max(0.0, until - time.monotonic())):
            return False
        events = sys.modules.get("prefect.events.worker")
        if events is None:
            return True
        self._sending = self._sending or events.EventsWorker.drain_all(timeout=0)[1]
        return not concurrent.futures.wait(self._sending, max(0.0, until - time.monotonic()))[1]

    def _hold(self) -> None:
        from prefect import flow, tags

        _holding.set(self)
        try:
            with tags(*reconcile.tags()):
                flow(name=self._name, persist_result=False, validate_parameters=False)(_held)(self._config)
        except BaseException as error:  # of the work, which raises it too; or of Prefect, which is not to stop it
            if error is not self._error:
                self._failure = error
                log.debug("flow run of Prefect's", exc_info=True)
        self._begun.set()

    def wait(self, run: str | None) -> None:
        """Waits, inside the flow run with the identifier `run`, until its work is done; raises the work's error."""
        from prefect.context import TagsContext

        self._id = run
        with TagsContext(current_tags=set()):
            self._context = contextvars.copy_context()
        self._begun.set()
        self._error = self._outcome.get()
        if self._error is not None:
            raise self._error


_holding: contextvars.ContextVar[_HeldRun] = contextvars.ContextVar("_holding")


def _held(config: dict[str, Any]) -> None:  # noqa: ARG001 - shown on Prefect's pages
    """The flow: of a module, as Dask and Ray send it to their workers together with each task."""
    from prefect.context import FlowRunContext

    run = FlowRunContext.get()
    _holding.get().wait(None if run is None or run.flow_run is None else str(run.flow_run.id))


def waited(done: Callable[[float], bool], until: float, url: str | None) -> bool:
    """Returns whether `done`, which waits for the given seconds, holds before `until`.

    The answer is False sooner if the server at `url` does not work, or there is none.
    """
    while (left := until - time.monotonic()) > 0:
        if done(min(STEP_SECONDS, left)):
            return True
        if url is None or not prefect_home.works(url, ASK_SECONDS):
            return False
    return False


def _server() -> str | None:
    from prefect.settings import PREFECT_API_URL

    return cast("str | None", PREFECT_API_URL.value())


def _quieten() -> None:
    """Keeps Prefect's own lines off stderr: what a user needs to know is one line of `warn`."""
    for name in (None, "prefect", "prefect._internal"):
        for handler in logging.getLogger(name).handlers:
            if type(handler).__module__.startswith("prefect.") and _of_the_program not in handler.filters:
                handler.addFilter(_of_the_program)


def _of_the_program(record: logging.LogRecord) -> bool:
    return not record.name.startswith(("prefect", "EventsWorker", "APILogWorker"))


def leave(status: int) -> None:
    """Ends the process at once with `status` if threads of Prefect's wait for a server that is away.

    Otherwise it does nothing: the interpreter's own end would wait for them, for minutes.
    """
    if not _abandoned.is_set():
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    own_server.stop_all()
    os._exit(status)


def leave_soon() -> None:
    """Lets this process end within `LEAVE_SECONDS`, also if Prefect's server does not take its last events.

    For workers of a cluster, before it is shut down: Prefect itself waits for the server, without a bound.
    """
    threading._register_atexit(_send_and_leave)  # type: ignore[attr-defined]  # runs before Prefect's own


def _send_and_leave() -> None:
    events = sys.modules.get("prefect.events.worker")
    if events is not None and events.EventsWorker.drain_all(timeout=LEAVE_SECONDS)[1]:
        os._exit(0)


class _Publisher:
    """A thread that publishes artifacts, the newest of each name."""

    def __init__(self) -> None:
        self._pending: dict[str, Callable[[], object]] = {}
        self._changed = threading.Condition()
        self._busy = False
        self._thread: threading.Thread | None = None

    def post(self, name: str, function: Callable[[], object]) -> None:
        context = contextvars.copy_context()
        with self._changed:
            self._pending[name] = lambda: context.run(function)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._publish, name="prefect-artifacts", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def drain(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending and not self._busy, seconds)

    def _publish(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._pending))
                name = next(iter(self._pending))
                function, self._busy = self._pending.pop(name), True
            try:
                function()
            except Exception as error:
                warn(error)
                log.debug("Prefect artifact was not published: %s", name, exc_info=True)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()


_publisher = _Publisher()
_published: dict[tuple[UUID, str], UUID] = {}  # by flow run and key


def publish(key: str, kind: Kind, data: float | str, description: str) -> None:
    """Publishes an artifact of the flow run of Prefect's that this is called in; otherwise does nothing."""

    def send(run: UUID) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

        with get_client(sync_client=True) as client:
            if (run, key) in _published:
                client.update_artifact(_published[run, key], ArtifactUpdate(data=data))
            else:
                new = ArtifactCreate(key=key, type=kind, description=description, data=data, flow_run_id=run)
                _published[run, key] = client.create_artifact(new).id

    run = _flow_run()
    if run is not None:
        _publisher.post(key, lambda: send(run))


def _flow_run() -> UUID | None:
    """Returns the identifier of the flow run of Prefect's that this is called in."""
    if "prefect.context" not in sys.modules:
        return None
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return None if context is None or context.flow_run is None else context.flow_run.id


def post(name: str, function: Callable[[], object]) -> None:
    """Calls `function` in the background; one of the same `name` that still waits is replaced.

    Outside a flow run it does nothing. An error of `function` is a warning, once in a process.
    """
    if _flow_run() is not None:
        _publisher.post(name, function)


def drain(seconds: float) -> bool:
    """Waits at most `seconds` until all artifacts are published; returns whether they are."""
    return _publisher.drain(seconds)
