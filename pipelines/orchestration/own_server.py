"""Prefect servers that we start: for one command, or for `jukebox serve`. Closed to strangers (docs/security.md).

The socket is bound here and handed over, so that nobody else can take the port. The server is in a session of its own:
signals of a terminal or a batch system reach this process only, which ends the server once its run is recorded.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from jukebox_core.errors import RunError
from pipelines.orchestration.guard import WILDCARDS
from pipelines.orchestration.password import own_password

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

log = logging.getLogger("jukebox")

Mode = Literal["served", "ephemeral", "background"]
"""With pages and services; without them; or so, with a low priority, since nobody waits for it to start."""
LOG = "server.log"
START_SECONDS = 300  # on a slow disk and a busy machine, with a database that is to be set up
SAY_SECONDS = 1.0  # of waiting, after which a line says what for
_STOP_SECONDS = 2.0
_POLL_SECONDS = 0.1
_started: list[subprocess.Popen[bytes]] = []


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens at `host` and `port`; 0 stands for any free port.

    Raises:
        RunError: the address cannot be used.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=128) if kind else socket.socket()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{host}:{port} cannot be used ({reason}); choose another --port or --host") from None


def address_of(listening: socket.socket, host: str) -> str:
    """Returns the API address of a server on a socket, as this machine's programs use it."""
    port = listening.getsockname()[1]
    if host in WILDCARDS:
        host = "127.0.0.1" if listening.family == socket.AF_INET else "::1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/api"


def launch(home: Path, listening: socket.socket, host: str, mode: Mode) -> subprocess.Popen[bytes]:
    """Starts a server on a listening socket, which is closed here; returns its process.

    Args:
        home: PREFECT_HOME; the server's log is written there.
        listening: the socket.
        host: the address that the socket is bound to.
        mode: see `Mode`.

    Raises:
        OSError: the password cannot be stored.
    """
    page = address_of(listening, host).removesuffix("/api")
    environment = dict(os.environ)
    environment["PREFECT_SERVER_API_AUTH_STRING"] = own_password(home)
    environment.setdefault("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", page)
    environment.setdefault("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "true")
    if mode != "served":
        environment["PREFECT_UI_ENABLED"] = "0"
    module = "pipelines.orchestration.server_process"
    with listening:
        descriptor = listening.fileno()
        arguments = [str(descriptor), host, mode, str(home)]
        return subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, "-m", module, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[descriptor],
            start_new_session=True,
        )


def wait_for(process: subprocess.Popen[bytes], url: str, home: Path, answers: Callable[[str], bool]) -> None:
    """Waits until a server answers.

    Raises:
        RunError: it has ended, or does not answer within `START_SECONDS`; it is ended then.
    """
    began, said = time.monotonic(), False
    until = began + START_SECONDS
    while not answers(url):
        if not said and time.monotonic() - began > SAY_SECONDS:
            said = True
            log.info("waiting for Prefect's server, which takes seconds to start")
        if process.poll() is not None or time.monotonic() > until:
            stop(process)
            raise RunError(
                f"Prefect's server did not start at {url} ({last_line(home)}); see {home / LOG}, then try again"
            )
        time.sleep(_POLL_SECONDS)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a server: in order, or after `_STOP_SECONDS` at once; idempotent."""
    with suppress(OSError):
        process.terminate()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def dismiss(process: subprocess.Popen[bytes]) -> None:
    """Asks a server to end, and does not wait for it; idempotent."""
    with suppress(OSError):
        process.terminate()


def stop_at_exit(process: subprocess.Popen[bytes]) -> None:
    """Lets a server end with this process, in order."""
    if not _started:
        atexit.register(stop_all)
    _started.append(process)


def stop_all() -> None:
    """Ends the servers of `stop_at_exit`."""
    while _started:
        stop(_started.pop())


@contextmanager
def running(
    home: Path, host: str, port: int, answers: Callable[[str], bool]
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs a server with pages and services during the block; yields its API address and process.

    Raises:
        RunError: the address cannot be used, or the server does not start.
    """
    listening = listen(host, port)
    url = address_of(listening, host)
    process = launch(home, listening, host, "served")
    try:
        wait_for(process, url, home, answers)
        yield url, process
    finally:
        stop(process)


def last_line(home: Path) -> str:
    """Returns the last line of the log of a server of `home`."""
    try:
        lines = (home / LOG).read_text("utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][:200] if lines else "no message"
