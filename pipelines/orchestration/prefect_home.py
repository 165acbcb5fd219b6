"""Prefect's environment and server: its database under the run's storage, no telemetry, warnings only.

Prefect reads its environment when it is imported, so this module is imported, and `use` called, before it.
A running server is used: the one that PREFECT_API_URL names, or one that ``jukebox serve`` started for this storage.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.locks import locked
from jukebox_core.base.paths import user_path
from jukebox_core.base.processes import own_name
from jukebox_core.errors import RunError
from pipelines.exit_status import working

OWNER = "JUKEBOX_PROCESS"  # environment variable: the process that a server was started for
_RECORD = "server.json"
_POLL_SECONDS = 0.1  # between two attempts to take the database's lock


@working()
def use(storage_root: str) -> None:
    """Points Prefect at `storage_root`; variables that the user has set in the environment take precedence.

    If no server runs, Prefect's own is started on loopback, and ends with this process.

    Raises:
        RunError: Prefect's database cannot be set up, or there is no loopback.
    """
    home = set_environment(storage_root)
    if not os.environ.get("PREFECT_API_URL"):
        url = running_server(home)
        if url is None:
            _check_loopback()
            prepare_database(home)
            start_server()
        else:
            os.environ["PREFECT_API_URL"] = url


def set_environment(storage_root: str) -> Path:
    """Sets Prefect's environment variables, except the server's address; returns PREFECT_HOME, which it creates."""
    home = user_path(storage_root).absolute() / ".prefect"
    defaults = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # for a slow disk and a busy machine
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_UI_API_URL": "/api",  # relative to the page: any port, and through a tunnel
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
        "PREFECT_CLI_PROMPT": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ[OWNER] = own_name()
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    return home


def running_server(home: Path) -> str | None:
    """Returns the API address of the server that was recorded in `home`, if it answers."""
    try:
        url: str = json.loads((home / _RECORD).read_text("utf-8"))["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if answers(url) else None


def record_server(home: Path, url: str) -> None:
    """Records that a server answers at `url`, so that later commands use it; atomic."""
    with atomic_write(home / _RECORD) as file:
        file.write(json.dumps({"url": url}).encode())


def forget_server(home: Path) -> None:
    """Removes the record of a server."""
    (home / _RECORD).unlink(missing_ok=True)


def answers(url: str, timeout: float = 2.0) -> bool:
    """Whether a Prefect server answers at the API address `url`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for loopback
    try:
        with opener.open(f"{url}/health", timeout=timeout) as reply:
            return bool(reply.status == 200)
    except (OSError, ValueError, urllib.error.URLError):
        return False


def _check_loopback() -> None:
    """Checks that loopback works; without it Prefect would wait minutes for its server and then report a timeout.

    Raises:
        RunError: it does not work.
    """
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        raise RunError(
            f"127.0.0.1 cannot be reached ({error.strerror or error}), where Prefect's own server would listen; bring "
            "the loopback interface up (ip link set lo up), or set PREFECT_API_URL. The Python interface needs neither"
        ) from None


def prepare_database(home: Path) -> None:
    """Migrates Prefect's database once for each version of Prefect; idempotent, and safe in parallel processes.

    Raises:
        RunError: it cannot be set up.
    """
    ready, needed = home / "database.version", version("prefect")
    if "PREFECT_API_DATABASE_CONNECTION_URL" in os.environ or _text(ready) == needed:
        return
    with locked(home / "database.lock"):
        if _text(ready) == needed:
            return
        upgrade = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
        done = subprocess.run(upgrade, capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if done.returncode:
            lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            reason = next((line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception)\b", line)), lines[-1])
            raise RunError(
                f"Prefect's database in {home} cannot be set up ({reason}); free the disk, or choose "
                "another storage.root"
            )
        ready.write_text(needed, "ascii")


def start_server() -> None:
    """Starts Prefect's own server as a subprocess that ignores Ctrl-C; Prefect then finds it running.

    A terminal sends SIGINT to every process of a command; if the server ended at once, the run could not record that
    it stopped. A subprocess inherits the signal mask of the thread that starts it: here one that blocks SIGINT.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE

    if PREFECT_API_URL.value() or not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():  # set in a profile of the user
        return
    failures: list[Exception] = []

    def start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            SubprocessASGIServer().start()
        except Exception as error:  # raised below, in the thread that waits
            failures.append(error)

    thread = threading.Thread(target=start, name="prefect-server", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _text(path: Path) -> str | None:
    try:
        return path.read_text("ascii")
    except OSError:
        return None
