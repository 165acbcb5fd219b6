"""The process of a Prefect server that we start: Prefect's application behind `Guard`, on a socket of its parent's.

It reads the journals of its parent, and of processes that have ended (`pipelines.orchestration.journal`). It ends with
its parent, however that ends, or as soon as their journals are recorded: the parent holds the other end of a pipe that
is this process's stdin.

    python -m pipelines.orchestration.server_process DESCRIPTOR HOST MODE HOME
"""

from __future__ import annotations

import io
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.processes import is_dead, name_of
from pipelines.orchestration.database import correct_times, prepare_database, trimming
from pipelines.orchestration.follow import Follower, journals
from pipelines.orchestration.guard import Guard
from pipelines.orchestration.own_server import LOG, address_of
from pipelines.orchestration.rest import Api

if TYPE_CHECKING:
    from uvicorn import Server

NICENESS = 10  # of a server that nobody waits for
POLL_SECONDS = 0.2  # between two looks at the parent and at the journals
AGAIN_SECONDS = 2.0  # after a journal could not be reported, since the server is busy
LAST_SECONDS = 120.0  # that it records after its parent has ended
LOG_BYTES = 1_000_000  # after which the log is begun again, and the part before is kept as ``.old``


def main() -> None:
    """Serves until the parent ends, or SIGTERM."""
    descriptor, host, mode, home = sys.argv[1:]
    sys.stdout = sys.stderr = BoundedLog(Path(home) / LOG)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the parent, which ends this process
    listening = socket.socket(fileno=int(descriptor))
    servers: list[Server] = []
    thread = _Parent(servers, Path(home), address_of(listening, host))
    thread.start()
    if mode == "background":
        os.nice(NICENESS)
    if mode != "served":
        prepare_database(Path(home))
    from prefect.server.api.server import create_app
    from uvicorn import Config, Server

    origins = os.environ.get("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "").split(",")
    app = Guard(trimming(create_app(ephemeral=mode != "served", final=True)), host, origins)
    servers.append(Server(Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1)))
    servers[0].run(sockets=[listening])


class _Parent(threading.Thread):
    """A thread that records journals while the parent lives, and ends this process some time after it."""

    def __init__(self, servers: list[Server], home: Path, url: str) -> None:
        """`servers` holds the server once there is one: Prefect takes seconds to import."""
        super().__init__(name="parent", daemon=True)
        self._servers, self._home, self._url = servers, home, url
        self._parent = name_of(os.getppid())
        self._ended: float | None = None  # when the parent ended

    def run(self) -> None:
        """Records, until the parent has ended and its journals are recorded, or cannot be within `LAST_SECONDS`."""
        follower, left, again = None, 1, 0.0
        while True:
            self._look()
            if self._servers and self._servers[0].started and time.monotonic() >= again:
                if follower is None:
                    api = Api(self._url, os.environ["PREFECT_SERVER_API_AUTH_STRING"])
                    follower = Follower(self._home, None, api, correct_times)
                try:
                    left = follower.step(mine=lambda process: process == self._parent, ended=self._has_ended)
                except Exception as error:
                    again = time.monotonic() + AGAIN_SECONDS
                    print(f"{type(error).__name__}: {error}")  # noqa: T201 - to the log
            if self._ended is not None and not (left and self._waiting()):
                break
        if not self._servers:
            os._exit(0)
        self._servers[0].should_exit = True

    def _look(self) -> None:
        """Waits for `POLL_SECONDS`, and sees whether the parent has ended."""
        if self._ended is not None:
            time.sleep(POLL_SECONDS)
        elif select.select([0], [], [], POLL_SECONDS)[0] and not os.read(0, 1024):
            self._ended = time.monotonic()

    def _has_ended(self, process: str) -> bool:
        return is_dead(process) or (process == self._parent and self._ended is not None)

    def _waiting(self) -> bool:
        """Whether there are journals that this process may still record."""
        if self._ended is None or time.monotonic() - self._ended > LAST_SECONDS:
            return False
        return any(self._has_ended(process) for _, process in journals(self._home, None))


class BoundedLog(io.TextIOBase):
    """Text that is appended to a file whose size is bounded; an error of the disk is not passed on."""

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        """Writes to `path`; beyond `limit` bytes the file is renamed to ``<name>.old``, and begun again."""
        self._path, self._limit, self._lock = path, limit, threading.Lock()

    def writable(self) -> bool:
        """Returns True."""
        return True

    def write(self, text: str) -> int:
        """Appends `text`; returns its length."""
        try:
            with self._lock:
                if self._path.exists() and self._path.stat().st_size > self._limit:
                    self._path.replace(self._path.with_name(f"{self._path.name}.old"))
                with self._path.open("a", encoding="utf-8", errors="replace") as file:
                    file.write(text)
        except OSError:
            pass
        return len(text)


if __name__ == "__main__":
    main()
