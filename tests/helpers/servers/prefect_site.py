"""A Prefect server on loopback, `jukebox serve` beside it, and the part of Prefect's API that tests use."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

TIMEOUT = 240.0  # seconds: the machine may be busy with other tests
DONE = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment without the user's variables for Prefect, and with its own weights folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "JUKEBOX_"))}
    return kept | {"JUKEBOX_WEIGHTS": str(folder / "weights"), "DO_NOT_TRACK": "1"} | more


def wait(what: str, found: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
    """The result of `found`, once it is true."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if result := found():
            return result
        time.sleep(0.7)
    raise AssertionError(f"{what} did not happen within {timeout} s")


@dataclass
class Site:
    """A server and the folder that songs are made in."""

    url: str
    folder: Path

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and decoded answer of a request; one that the server is too busy for is sent again, as clients do."""
        for _ in range(10):
            status, answer = self._ask(method, path, body)
            if status != 503:
                break
            time.sleep(2)
        return status, answer

    def _ask(self, method: str, path: str, body: object) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with _opener.open(request, timeout=60) as reply:
                text, status = reply.read(), reply.status
        except urllib.error.HTTPError as error:
            text, status = error.read(), error.code
        return status, json.loads(text) if text else None

    def deployment(self, name: str = "songs") -> dict[str, Any]:
        status, found = self.ask("GET", f"deployments/name/jukebox/{name}")
        assert status == 200, found
        return dict(found)

    def create(self, overrides: Sequence[str], name: str = "songs", **request: object) -> tuple[int, Any]:
        body = {"parameters": {"request": {"overrides": list(overrides), **request}}}
        return self.ask("POST", f"deployments/{self.deployment(name)['id']}/create_flow_run", body)

    def start(self, overrides: Sequence[str], name: str = "songs", **request: object) -> str:
        status, run = self.create(overrides, name, **request)
        assert status == 201, run
        return str(run["id"])

    def run(self, identifier: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"flow_runs/{identifier}")[1])

    def ended(self, identifier: str, *names: str) -> dict[str, Any]:
        """The run's state, once it has ended or is in a state of one of these names."""

        def state() -> dict[str, Any] | None:
            found = self.run(identifier)["state"]
            return found if found["type"] in DONE or found["name"] in names else None

        return dict(wait(f"the end of run {identifier}", state))

    def artifacts(self, run: str) -> dict[str, Any]:
        """The newest artifact of a run for each key."""
        found = self.ask("POST", "artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}, "sort": "CREATED_DESC"})[1]
        newest: dict[str, Any] = {}
        for artifact in found:
            newest.setdefault(artifact["key"], artifact["data"])
        return newest


@contextmanager
def running(
    arguments: Sequence[str], log: Path, folder: Path, env: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own session, ended at the end, with its lines in `log`."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=folder, env=env, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def server(folder: Path) -> Iterator[Site]:
    """A `prefect server` with a database in `folder`."""
    port = free_port()
    settings = {"PREFECT_HOME": str(folder / ".home"), "PREFECT_UI_API_URL": "/api"}
    env = environment(folder, **settings, PREFECT_SERVER_ANALYTICS_ENABLED="false")
    site = Site(f"http://127.0.0.1:{port}/api", folder)
    start = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(start, folder / "server.log", folder, env) as process:

        def answers() -> bool:
            assert process.poll() is None, (folder / "server.log").read_text()
            try:
                return site.ask("GET", "health")[0] == 200
            except OSError:
                return False

        wait("the start of the server", answers)
        yield site


@contextmanager
def serving(site: Site, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`jukebox serve` on the site's server, once its worker is ready."""
    log = site.folder / f"serve-{time.monotonic_ns()}.log"
    env = environment(site.folder, PREFECT_API_URL=site.url)
    with running(["pipelines.cli.main", "serve", *arguments], log, site.folder, env) as process:

        def ready() -> bool:
            text = log.read_text()
            assert process.poll() is None, text
            return "Worker" in text and "started!" in text

        wait("the start of the worker", ready)
        yield process
