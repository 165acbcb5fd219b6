"""The process of a Prefect server that we start: Prefect's application behind `Guard`, on a socket of its parent's.

It ends with its parent, however that ends: the parent holds the other end of a pipe that is this process's stdin.

    python -m pipelines.orchestration.server_process DESCRIPTOR HOST MODE LOG
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.orchestration.guard import Guard

if TYPE_CHECKING:
    from uvicorn import Server

LOG_BYTES = 1_000_000  # after which the log is begun again, and the part before is kept as ``.old``


def main() -> None:
    """Serves until the parent ends, or SIGTERM."""
    descriptor, host, mode, log = sys.argv[1:]
    sys.stdout = sys.stderr = BoundedLog(Path(log))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the parent, which ends this process
    servers: list[Server] = []
    threading.Thread(target=_end_with_parent, args=(servers,), name="parent", daemon=True).start()
    from prefect.server.api.server import create_app
    from uvicorn import Config, Server

    from pipelines.orchestration.database import trimming

    origins = os.environ.get("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "").split(",")
    app = Guard(trimming(create_app(ephemeral=mode == "ephemeral", final=True)), host, origins)
    servers.append(Server(Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=3)))
    servers[0].run(sockets=[socket.socket(fileno=int(descriptor))])


def _end_with_parent(servers: list[Server]) -> None:
    """Ends the server of the list when the parent has ended; this process at once if there is no server yet."""
    while os.read(0, 1024):
        pass
    if not servers:  # Prefect, which takes seconds to import, is still being imported
        os._exit(0)
    servers[0].should_exit = True


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
