"""``jukebox serve``: a deployment, the worker that runs it, and a server if none runs yet, in one command.

What it starts it also ends: on SIGTERM the songs being sampled are stored and put back in the queue, the schedule
stays, and the next start goes on.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

from jukebox_core.base.processes import children, group_lives, is_dead, name_of
from jukebox_core.errors import ConfigError, RunError
from pipelines.exit_status import working
from pipelines.orchestration import prefect_home, reconcile
from pipelines.orchestration.artifacts import LINKS
from pipelines.settings.compose import GENERATE, compose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BytesIO
    from types import FrameType
    from typing import BinaryIO

    from prefect.client.schemas.schedules import CronSchedule

POOL = "jukebox"
ENTRYPOINT = "pipelines.serving.deploy.generate"
START_SECONDS = 120  # a server on a slow disk
STOP_SECONDS = 30  # until what does not end by itself is killed


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """What ``jukebox serve`` was told."""

    name: str
    cron: str | None
    timezone: str
    host: str
    port: int
    role: str
    limit: int
    overrides: tuple[str, ...]
    storage_root: str

    @property
    def request(self) -> dict[str, Any]:
        """What a run makes that is not told otherwise; a schedule without a seed of its own makes new songs."""
        seeded = any(override.lstrip("+").startswith("sampling.seed=") for override in self.overrides)
        return {"overrides": list(self.overrides), "new_seed": self.cron is not None and not seeded}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; `jukebox serve --help` shows what there is")


def parse(arguments: Sequence[str]) -> Serving:
    """Returns what the arguments say.

    Raises:
        ConfigError: a flag, a cron expression or an override that does not fit.
        SystemExit: help was asked for, and printed.
    """
    parser = _Parser(prog="jukebox serve", description=__doc__, allow_abbrev=False)
    parser.add_argument("--name", default="songs", help="of the deployment: jukebox/NAME (default: %(default)s)")
    parser.add_argument("--cron", help="when to make songs by itself, as in '0 3 * * *'; default: only on demand")
    parser.add_argument("--timezone", default="UTC", help="of the cron expression (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address of the server it starts (default: %(default)s)")
    parser.add_argument("--port", type=int, default=4200, help="port of the server it starts (default: %(default)s)")
    parser.add_argument(
        "--role",
        choices=("both", "server", "worker"),
        default="both",
        help="server: the deployment, with workers elsewhere; worker: one more worker of a server that runs already",
    )
    parser.add_argument(
        "--limit", type=int, default=1, help="runs at a time, of all workers together (default: %(default)s)"
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="what a run makes that is not told otherwise")
    given = parser.parse_intermixed_args(list(arguments))
    if given.limit < 1:
        raise ConfigError(f"--limit is {given.limit}; it must be 1 or more")
    settings = compose(GENERATE, given.overrides)
    return Serving(**vars(given) | {"overrides": tuple(given.overrides)}, storage_root=settings.storage.root)


def serve(arguments: Sequence[str]) -> None:
    """Serves until it is asked to stop.

    Raises:
        ConfigError: as `parse`.
        RunError: the server cannot be reached or started, or it or the worker ended by itself.
    """
    serving = parse(arguments)
    home = prefect_home.settle(serving.storage_root)
    _schedules(serving)
    reconcile.stop_leaked_servers()
    with working(), _terminating(), ExitStack() as stack:
        processes: list[subprocess.Popen[bytes]] = []
        url = _existing_server(home)
        if url is None and serving.role == "worker":
            raise RunError("no server runs here that a worker could join; set PREFECT_API_URL to the address of one")
        if url is None:
            url = f"http://{serving.host}:{serving.port}/api"
            processes.append(stack.enter_context(_server(serving, home, url)))
        os.environ["PREFECT_API_URL"] = url
        if serving.role != "worker":
            links = stack.enter_context(_shelf(serving)) if serving.role == "both" else None
            _tell(serving, url, register(serving, links))
        reconcile.reconcile(restart=True)
        if serving.role != "server":
            processes.append(stack.enter_context(_worker()))
        while all(process.poll() is None for process in processes):
            time.sleep(0.5)
        raise RunError("the server or the worker ended by itself; see the lines above, then start again")


def register(serving: Serving, links: str | None) -> str:
    """Makes or updates the work pool and the deployment; returns the deployment's identifier.

    The pool limits how many runs there are at a time. A limit of the worker's own would do it too, but Prefect 3.8's
    worker dies of it where a run that it just suspended or put back is resumed before it forgot that run.

    Args:
        serving: what to serve.
        links: the address that run folders are served under, if they are.
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
    """Returns the schedule as Prefect has it, or none.

    Raises:
        ConfigError: the cron expression or the time zone is wrong.
    """
    from prefect.client.schemas.schedules import CronSchedule

    if serving.cron is None:
        return []
    try:
        return [CronSchedule(cron=serving.cron, timezone=serving.timezone)]
    except ValueError:
        raise ConfigError(
            f"--cron {serving.cron!r} in --timezone {serving.timezone!r} is no time; "
            "write five fields, as in '0 3 * * *' for three o'clock every night"
        ) from None


def _existing_server(home: Path) -> str | None:
    named = os.environ.get("PREFECT_API_URL")
    if named is None:
        return prefect_home.running_server(home)
    if not prefect_home.answers(named, timeout=10):
        raise RunError(f"PREFECT_API_URL is {named}, but no server answers there; start it, or unset the variable")
    return named


@contextmanager
def _server(serving: Serving, home: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server of one's own, known to the commands that come after; gives it when it answers."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((serving.host, serving.port))
        except OSError as error:
            raise RunError(
                f"{serving.host}:{serving.port} cannot be used ({error.strerror}); choose another --port"
            ) from None
    prefect_home.prepare_database(home)
    command = ["server", "start", "--host", serving.host, "--port", str(serving.port)]
    with _process(command) as process:
        until = time.monotonic() + START_SECONDS
        while not prefect_home.answers(url):
            if process.poll() is not None or time.monotonic() > until:
                raise RunError(f"Prefect's server did not start at {url}; see the lines above")
            time.sleep(0.2)
        prefect_home.record_server(home, url)
        try:
            yield process
        finally:
            prefect_home.forget_server(home)


@contextmanager
def _worker() -> Iterator[subprocess.Popen[bytes]]:
    """Runs a worker; when it is to end, the runs that it began end first, as a worker that ends kills them."""
    command = ["worker", "start", "--pool", POOL, "--type", "process", "--install-policy", "never"]
    with _process([*command, "--name", f"{socket.gethostname()}-{os.getpid()}"]) as process:
        try:
            yield process
        finally:
            _end_runs(process)


def _end_runs(worker: subprocess.Popen[bytes]) -> None:
    """Asks the runs of a worker to store their tokens, and waits for them.

    The worker is made to stand still, and left so: it would take up again at once what goes back in the queue.
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
    """Runs a command of Prefect in a group of its own; ends all of the group."""
    process = subprocess.Popen([sys.executable, "-m", "prefect", *command], start_new_session=True)  # noqa: S603 - ours
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # one that stands still learns of it now
        until = time.monotonic() + STOP_SECONDS
        while (process.poll() is None or group_lives(process.pid)) and time.monotonic() < until:
            time.sleep(0.1)
        _send(process, signal.SIGKILL)
        process.wait()


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


@contextmanager
def _terminating() -> Iterator[None]:
    """Lets SIGTERM end this program as SIGINT does, once: what follows must not interrupt the ending."""

    def leave(number: int, _: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        _say("stopping; songs being sampled are stored and put back in the queue")
        sys.exit(128 + number if number == signal.SIGINT else 0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Shelf(SimpleHTTPRequestHandler):
    """Lets a browser have what runs made, and nothing else: no stores, no databases, no lists of what there is."""

    def send_head(self) -> BytesIO | BinaryIO | None:
        if any(part.startswith(".") for part in unquote(urlsplit(self.path).path).split("/")):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        self.send_error(HTTPStatus.NOT_FOUND, f"{Path(path).name} is a folder; name a file")

    def log_message(self, *_: object) -> None:
        """Says nothing: the worker's lines are what somebody wants to read."""


@contextmanager
def _shelf(serving: Serving) -> Iterator[str]:
    """Serves the run folders, so that links in Prefect's pages open; gives the address."""
    root = str(Path(serving.storage_root).expanduser().absolute())
    server = ThreadingHTTPServer((serving.host, 0), functools.partial(_Shelf, directory=root))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{serving.host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _tell(serving: Serving, url: str, identifier: str) -> None:
    page = url.removesuffix("/api")
    when = f"by itself at {serving.cron!r} ({serving.timezone}) and on demand" if serving.cron else "on demand"
    _say(f"serving jukebox/{serving.name}, {when}; pages at {page}/deployments/deployment/{identifier}")
    _say(f"ask for songs with: PREFECT_API_URL={url} prefect deployment run jukebox/{serving.name}")


def _say(line: str) -> None:
    print(f"jukebox: {line}", file=sys.stderr, flush=True)  # noqa: T201 - for the person
