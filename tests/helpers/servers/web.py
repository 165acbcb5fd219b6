"""A `jukebox web` of a test: its application in this process, or the whole program on loopback."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from uvicorn import Config, Server

from pipelines.orchestration import own_server
from pipelines.web.application import application
from pipelines.web.settings import WebSettings
from pipelines.web.site import Site
from tests.helpers.patience import patience

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = Path(sys.executable).with_name("jukebox")


def site(root: Path, **settings: Any) -> Site:
    """A site whose worker is not started."""
    overrides = (f"storage.root={root}",)
    return Site(WebSettings(storage_root=str(root), overrides=overrides, port=0, **settings))


@contextmanager
def answering(made: Site) -> Iterator[httpx.Client]:
    """A client of a real server of a site, which is closed with the block."""
    listening = own_server.listen("127.0.0.1", 0)
    address = own_server.address_of(listening, "127.0.0.1").removesuffix("/api")
    server = Server(Config(application(made), log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=address, timeout=patience(60), trust_env=False) as client:
            yield client
    finally:
        made.hub.close()
        server.should_exit = True
        thread.join(patience(10))
        made.close()
        listening.close()


class Client:
    """A program that uses the API of a server."""

    def __init__(self, address: str, process: subprocess.Popen[str]) -> None:
        self.address, self.process = address, process

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:
        """The answer to a request, as JSON; a body makes it a POST."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.address}/api/{path}", data, method=method or ("POST" if data else "GET")
        )
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=patience(60)) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return {"status": error.code, **json.loads(error.read())}

    def until(self, path: str, *, has: Any, seconds: float = 120.0) -> Any:
        """The answer to a request, as soon as it has something."""
        end = time.monotonic() + patience(seconds)
        while not has(found := self.ask(path)):
            assert time.monotonic() < end, found
            time.sleep(0.1)
        return found

    def finished(self, job: str) -> Any:
        """A job, once it is over."""
        return self.until(f"jobs/{job}", has=lambda found: found["status"] in ("finished", "failed", "stopped"))


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Client]:
    """`jukebox web` in a folder, at a free port; it ends in order with the block."""
    command = [str(COMMAND), "web", "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = re.search(r"http://\S+?:\d+", process.stderr.readline())
        assert found, process.stderr.read()
        client = Client(found[0], process)
        client.until("jobs", has=lambda found: found["worker"]["ready"])
        yield client
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=patience(60))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
