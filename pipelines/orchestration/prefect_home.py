"""Prefect, kept to this project: its database under the run's storage, no telemetry, no noise.

Prefect reads its environment when it is imported, so this module is imported, and `use` called, before it.
A server that runs already is used: the one PREFECT_API_URL names, or one that ``jukebox serve`` started here.
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
from jukebox_core.base.processes import own_name
from jukebox_core.errors import RunError
from pipelines.exit_status import working

OWNER = "JUKEBOX_PROCESS"  # environment variable: the process that a server was started for
_RECORD = "server.json"


@working()
def use(storage_root: str) -> None:
    """Points Prefect at `storage_root`; what the user has set in the environment wins.

    Where no server runs, Prefect's own is started on loopback, and ends with this process.

    Raises:
        RunError: Prefect's database cannot be set up, or there is no loopback.
    """
    home = settle(storage_root)
    if not os.environ.get("PREFECT_API_URL"):
        url = running_server(home)
        if url is None:
            _check_loopback()
            prepare_database(home)
            start_server()
        else:
            os.environ["PREFECT_API_URL"] = url


def settle(storage_root: str) -> Path:
    """Sets Prefect's environment, all but the server's address; returns Prefect's home, which it makes."""
    home = Path(storage_root).expanduser().absolute() / ".prefect"
    defaults = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # a slow disk and a busy machine take their time
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_UI_API_URL": "/api",  # pages ask where they came from: any port, or the end of a tunnel
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
    """Writes down that a server answers at `url`, for the commands that come after."""
    with atomic_write(home / _RECORD) as file:
        file.write(json.dumps({"url": url}).encode())


def forget_server(home: Path) -> None:
    """Takes the record back."""
    (home / _RECORD).unlink(missing_ok=True)


def answers(url: str, timeout: float = 2.0) -> bool:
    """Whether a Prefect server answers at the API address `url`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business on loopback
    try:
        with opener.open(f"{url}/health", timeout=timeout) as reply:
            return bool(reply.status == 200)
    except (OSError, ValueError, urllib.error.URLError):
        return False


def _check_loopback() -> None:
    """Checks that this machine reaches itself; Prefect would wait minutes for its server, and then speak of a timeout.

    Raises:
        RunError: it does not.
    """
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        raise RunError(
            f"127.0.0.1 cannot be reached ({error.strerror or error}), where Prefect's own server would be; bring the "
            "loopback interface up (ip link set lo up), or set PREFECT_API_URL. The Python interface needs neither"
        ) from None


def prepare_database(home: Path) -> None:
    """Sets up Prefect's database once for each version of Prefect: two servers that both did it would collide.

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
            told = next((line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception)\b", line)), lines[-1])
            raise RunError(
                f"Prefect's database in {home} cannot be set up ({told}); free the disk, or choose another storage.root"
            )
        ready.write_text(needed, "ascii")


def start_server() -> None:
    """Starts Prefect's own server, which Prefect finds running then, where Ctrl-C does not reach it.

    A terminal sends Ctrl-C to every process of a command; a run whose server ended at once could tell nobody that it
    stopped. A process begins with those signals blocked that the thread blocks which starts it.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE

    if PREFECT_API_URL.value() or not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():  # by a profile of the user's
        return
    failures: list[Exception] = []

    def start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            SubprocessASGIServer().start()
        except Exception as error:  # it is raised where it is waited for
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
