"""Serving: a Prefect deployment, the worker that runs it, and a server if none runs yet, in one process.

All processes that it starts end with it: on SIGTERM unfinished songs are stored and put back in the queue, the schedule
stays, and the next start continues.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jukebox_core.base.paths import check_name, shortened
from jukebox_core.base.processes import children, group_lives, is_dead, name_of
from jukebox_core.errors import ConfigError, RunError
from pipelines.exit_status import working
from pipelines.orchestration import own_server, prefect_home, reconcile
from pipelines.orchestration.artifacts import LINKS
from pipelines.orchestration.database import prepare_database
from pipelines.orchestration.password import FILE as PASSWORD
from pipelines.serving.links import run_file_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from prefect.client.schemas.schedules import CronSchedule

POOL = "jukebox"
Role = Literal["both", "server", "worker"]
ENTRYPOINT = "pipelines.serving.deploy.generate"
_LAST_PORT = 65_535
_MOST_RUNS = 10_000  # at a time
STOP_SECONDS = 30  # that runs have to store what they made
WORKER_SECONDS = 2  # after which a worker, whose runs have ended, is killed


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """The settings of ``jukebox serve``."""

    name: str  # of the deployment: jukebox/NAME
    cron: str | None  # None: on demand only
    timezone: str  # of the cron expression
    host: str  # of the server, if one is started
    port: int
    role: Role
    limit: int  # runs at a time, of all workers together
    overrides: tuple[str, ...]  # of each run, unless a request has its own
    storage_root: str

    def __post_init__(self) -> None:
        """Checks ranges, and that the name can be part of an address."""
        if not 1 <= self.limit <= _MOST_RUNS:
            raise ConfigError(f"--limit is {self.limit}; it must be 1 or more, and at most {_MOST_RUNS:,}")
        if not 1 <= self.port <= _LAST_PORT:
            raise ConfigError(f"--port is {self.port}; it must be from 1 to {_LAST_PORT}")
        check_name(self.name, "--name")
        if not re.fullmatch(r"[\w:-]{1,63}(\.[\w:-]{1,63})*", self.host, re.ASCII):
            raise ConfigError(f"--host is {shortened(self.host)}; give an address of this machine, as in 127.0.0.1")

    @property
    def request(self) -> dict[str, Any]:
        """The default request of a run; a schedule without a fixed seed makes new songs each time."""
        seeded = any(override.lstrip("+").startswith("sampling.seed=") for override in self.overrides)
        return {"overrides": list(self.overrides), "new_seed": self.cron is not None and not seeded}


def serve(serving: Serving) -> None:
    """Serves until a signal stops it.

    Raises:
        ConfigError: the cron expression or the time zone is invalid.
        RunError: the server cannot be reached or started, or the server or the worker ended unexpectedly.
    """
    home = prefect_home.set_environment(serving.storage_root)
    _schedules(serving)
    with working(), _terminating(), ExitStack() as stack:
        processes: list[subprocess.Popen[bytes]] = []
        url = _existing_server(home)
        if url is None and serving.role == "worker":
            raise RunError("no server is running for this worker; set PREFECT_API_URL to the address of one")
        if url is None:
            url, process = stack.enter_context(_server(serving, home))
            processes.append(process)
        if serving.role != "worker":
            links = stack.enter_context(run_file_server(serving)) if serving.role == "both" else None
            _print_addresses(serving, url, register(serving, links), home)
        reconcile.reconcile(restart=True)
        if serving.role != "server":
            processes.append(stack.enter_context(_worker()))
        while all(process.poll() is None for process in processes):
            time.sleep(0.5)
        raise RunError("the server or the worker ended unexpectedly; see the lines above, then start again")


def register(serving: Serving, links: str | None) -> str:
    """Creates or updates the work pool and the deployment; returns the deployment's identifier.

    The pool limits the number of concurrent runs. The worker has such a limit too, but with it Prefect 3.8's worker
    crashes if a run that it has just suspended or requeued is resumed before it has forgotten that run.

    Args:
        serving: the settings.
        links: the address that run folders are served under; None: they are not served.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.deployments.runner import RunnerDeployment
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=serving.limit))
    deployment = RunnerDeployment.from_entrypoint(
        ENTRYPOINT,
        name=serving.name,
        schedules=_schedules(serving),
        parameters={"request": serving.request},
        work_pool_name=POOL,
        job_variables={
            "working_dir": str(Path.cwd()),
            "env": {"PREFECT_LOGGING_EXTRA_LOGGERS": "jukebox"} | ({} if links is None else {LINKS: links}),
        },
    )
    return str(deployment.apply())


def _schedules(serving: Serving) -> list[CronSchedule]:
    """Returns the schedule in Prefect's form; empty without a cron expression.

    Raises:
        ConfigError: the cron expression or the time zone is invalid.
    """
    from prefect.client.schemas.schedules import CronSchedule

    if serving.cron is None:
        return []
    try:
        return [CronSchedule(cron=serving.cron, timezone=serving.timezone)]
    except ValueError:
        raise ConfigError(
            f"--cron {serving.cron!r} in --timezone {serving.timezone!r} is no schedule; "
            "write five fields, as in '0 3 * * *' for three o'clock every night"
        ) from None


def _existing_server(home: Path) -> str | None:
    """Returns the address of a server that runs already, whose client this process becomes; None if there is none."""
    named, url = prefect_home.named_server(home), prefect_home.running_server(home)
    if named is not None and named != url:
        prefect_home.check_named(named)
        os.environ["PREFECT_API_URL"] = named
        return named
    if url is not None:
        prefect_home.trust(home, url)
    return url


@contextmanager
def _server(serving: Serving, home: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Starts a server and records it for later commands; yields its address and process, and ends it at the end."""
    try:
        prepare_database(home)
        with own_server.running(home, serving.host, serving.port, prefect_home.answers) as (url, process):
            prefect_home.record_server(home, url)
            try:
                prefect_home.trust(home, url)
                yield url, process
            finally:
                prefect_home.forget_server(home)
    except OSError as error:
        raise prefect_home.unusable(home, error) from None


@contextmanager
def _worker() -> Iterator[subprocess.Popen[bytes]]:
    """Starts a worker; yields its process. Its runs are stopped before it, as a worker that ends kills them."""
    command = ["worker", "start", "--pool", POOL, "--type", "process", "--install-policy", "never"]
    with _process([*command, "--name", f"{socket.gethostname()}-{os.getpid()}"]) as process:
        try:
            yield process
        finally:
            _end_runs(process)


def _end_runs(worker: subprocess.Popen[bytes]) -> None:
    """Sends SIGTERM to the runs of a worker, so that they store their tokens, and waits for them.

    The worker is suspended first, and stays so: otherwise it would resume at once the runs that are requeued.
    """
    if worker.poll() is not None:
        return
    worker.send_signal(signal.SIGSTOP)
    runs = {pid: name_of(pid) for pid in children(worker.pid)}
    for pid in runs:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    while not all(map(is_dead, runs.values())) and time.monotonic() < until:
        time.sleep(0.1)


@contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command of Prefect in its own process group; ends the whole group at the end."""
    process = subprocess.Popen([sys.executable, "-m", "prefect", *command], start_new_session=True)  # noqa: S603 - ours
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # a suspended process receives SIGTERM only now
        until = time.monotonic() + WORKER_SECONDS
        while (process.poll() is None or group_lives(process.pid)) and time.monotonic() < until:
            time.sleep(0.1)
        _send(process, signal.SIGKILL)
        process.wait()


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


@contextmanager
def _terminating() -> Iterator[None]:
    """Handles the first SIGTERM or SIGINT by ending the program in order, and ignores further ones."""

    def leave(number: int, _: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        _print_line("stopping; unfinished songs are stored and put back in the queue")
        sys.exit(128 + number if number == signal.SIGINT else 0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_addresses(serving: Serving, url: str, identifier: str, home: Path) -> None:
    page = url.removesuffix("/api")
    when = f"scheduled at {serving.cron!r} ({serving.timezone}) and on demand" if serving.cron else "on demand"
    _print_line(f"serving jukebox/{serving.name}, {when}; pages at {page}/deployments/deployment/{identifier}")
    access = ""
    if url == prefect_home.running_server(home):
        _print_line(f"pages and requests need the password, which is in {home / PASSWORD}")
        access = f'PREFECT_API_AUTH_STRING="$(cat {home / PASSWORD})" '
    _print_line(f"ask for songs with: PREFECT_API_URL={url} {access}prefect deployment run jukebox/{serving.name}")


def _print_line(line: str) -> None:
    print(f"jukebox: {line}", file=sys.stderr, flush=True)  # noqa: T201 - for the user
