"""Prefect's environment and server: its database under the run's storage, no telemetry, warnings only.

Prefect reads its environment when it is imported, so this module is imported, and `use` called, before it.
A running server is used: the one that PREFECT_API_URL names, or one that ``jukebox serve`` started for this storage.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import tomllib
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.paths import user_path
from jukebox_core.base.processes import is_dead, own_name
from jukebox_core.base.records import clear_place, read_json
from jukebox_core.errors import RecordError, RunError
from pipelines.exit_status import working
from pipelines.orchestration import own_server
from pipelines.orchestration.database import DATABASE_FILES, set_damaged_aside
from pipelines.orchestration.guard import LOOPBACK
from pipelines.orchestration.password import own_password

if TYPE_CHECKING:
    import subprocess

NAMED_SECONDS = 2.0  # within which a server that the user named must answer
NAMED_ATTEMPTS = 3  # if it accepts the connection
HEALTH_SECONDS = 2.0  # within which a server says that it is well, unless it is busy
_RECORD = "server.json"
_FILES = (_RECORD, own_server.LOG, *DATABASE_FILES)  # of ours, in Prefect's folder


class _OwnServer(NamedTuple):
    process: subprocess.Popen[bytes]
    url: str


_own: list[_OwnServer] = []  # the server that this process started for itself, if it did


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """The server that is to have the record of a flow run."""

    home: Path  # PREFECT_HOME
    named: str | None  # the API address, if it is a server that the user named
    url: str | None  # the API address, if the server runs already
    password: str | None  # of the server at `url`
    process: subprocess.Popen[bytes] | None  # of a server that is being started; None: it runs already


@working()
def connect(storage_root: str, mode: own_server.Mode = "background") -> Connection:
    """Returns the server of `storage_root` that runs already, or starts one and does not wait for it.

    Variables that the user has set in the environment take precedence.

    Raises:
        RunError: the server that PREFECT_API_URL names does not answer, Prefect's folder cannot be used, or there is no
            loopback.
    """
    home = set_environment(storage_root)
    if _own and _own[0].process.poll() is None:  # of an earlier job of this command
        return Connection(home=home, named=None, url=None, password=None, process=_own[0].process)
    if _own:
        _own.clear()
        os.environ.pop("PREFECT_API_URL", None)
    try:
        named, url = named_server(home), running_server(home)
        if named is not None and named != url:
            check_named(named)
            given = os.environ.get("PREFECT_API_AUTH_STRING")
            return Connection(home=home, named=named, url=named, password=given, process=None)
        if url is not None:
            trust(home, url)
            return Connection(home=home, named=None, url=url, password=own_password(home), process=None)
        _check_loopback()
        set_damaged_aside(home)
        return Connection(home=home, named=None, url=None, password=None, process=start_server(home, mode))
    except OSError as error:
        raise unusable(home, error) from None


def use(storage_root: str) -> None:
    """Makes this process, and those that it starts, clients of the server of `connect`, once that answers.

    Raises:
        RunError: as `connect`, and if the server does not start.
    """
    connection = connect(storage_root, "ephemeral")
    if "PREFECT_LOGGING_EXTRA_LOGGERS" not in os.environ:  # the run's own log has it all
        os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
    if connection.process is not None:
        try:
            own_server.wait_for(connection.process, _own[0].url, connection.home, answers)
            trust(connection.home, _own[0].url)
        except OSError as error:
            raise unusable(connection.home, error) from None


def set_environment(storage_root: str) -> Path:
    """Sets Prefect's environment variables, except the server's address; returns PREFECT_HOME, which it creates.

    Raises:
        RunError: the folder cannot be created.
    """
    home = user_path(storage_root).absolute() / ".prefect"
    defaults = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_UI_API_URL": "/api",  # relative to the page: any port, and through a tunnel
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",  # one request less in each process of a run
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    _spare_loopback_the_proxy()
    home = Path(os.environ["PREFECT_HOME"])
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in _FILES:
            clear_place(home / name, links=True)
    except OSError as error:
        raise unusable(home, error) from None
    return home


def _spare_loopback_the_proxy() -> None:
    """Excludes loopback from the proxies that the environment names, for this process and those that it starts."""
    given = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    names = [name.strip() for name in given.split(",") if name.strip()]
    if "*" not in names:
        names += sorted(LOOPBACK - set(names))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)


def named_server(home: Path) -> str | None:
    """Returns the API address that the user named: in the environment, or in a Prefect profile of `home`.

    Raises:
        RunError: the profiles are no regular file, which Prefect itself would wait for, or are not TOML.
    """
    path = home / "profiles.toml"
    if path.exists() and not path.is_file():
        raise RunError(f"{path} is not a file; move it away, or choose another storage.root or PREFECT_HOME")
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    try:
        profiles = tomllib.loads(path.read_text("utf-8"))
        active = os.environ.get("PREFECT_PROFILE") or profiles["active"]
        return str(profiles["profiles"][active]["PREFECT_API_URL"]) or None
    except (OSError, LookupError, TypeError):
        return None
    except ValueError as error:
        raise RunError(f"{path} is not TOML ({error}); mend it, or move it away") from None


def check_named(url: str) -> None:
    """Checks that a server that the user named answers, and accepts us.

    Raises:
        RunError: it does not.
    """
    remedy = "start that server, or correct or unset PREFECT_API_URL"
    try:
        status = _status_of_busy(f"{url}/admin/version")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise RunError(f"PREFECT_API_URL is {_shown(url)}, but no server answers there ({reason}); {remedy}") from None
    if status in (401, 403):
        raise RunError(
            f"PREFECT_API_URL is {_shown(url)}, a server that asks for a password (status {status}); set "
            "PREFECT_API_AUTH_STRING to user:password. That of `jukebox serve` is in the file .prefect/password of its "
            "storage.root"
        )
    if status >= 400:
        raise RunError(
            f"PREFECT_API_URL is {_shown(url)}, but no Prefect server answers there (status {status}); {remedy}. "
            "The address of Prefect's API usually ends in /api"
        )


def _status_of_busy(url: str) -> int:
    """Returns the status of a GET request to a server that may be busy; raises as `_status`."""
    credentials = os.environ.get("PREFECT_API_AUTH_STRING")
    for _ in range(NAMED_ATTEMPTS - 1):
        try:
            return _status(url, NAMED_SECONDS, credentials)
        except TimeoutError:  # it accepts connections
            continue
    return _status(url, NAMED_SECONDS, credentials)


def running_server(home: Path) -> str | None:
    """Returns the API address of the server that was recorded in `home`, if it answers, or is too busy to do so.

    A second server beside a busy one would make both slower, and they would wait for each other's database.
    """
    try:
        record = read_json(home / _RECORD)
        url, process = str(record["url"]), str(record.get("process", ""))
    except (OSError, RecordError, LookupError, TypeError, AttributeError):
        return None
    try:
        running = not is_dead(process) and _status(f"{url}/health", HEALTH_SECONDS) == 200
    except TimeoutError:  # its process lives, and it accepts connections
        running = True
    except (OSError, ValueError):
        running = False
    return url if running else None


def record_server(home: Path, url: str) -> None:
    """Records that a server of this process answers at `url`, so that later commands use it; atomic."""
    with atomic_write(home / _RECORD) as file:
        file.write(json.dumps({"url": url, "process": own_name()}).encode())


def forget_server(home: Path) -> None:
    """Removes the record of a server."""
    (home / _RECORD).unlink(missing_ok=True)


def trust(home: Path, url: str) -> None:
    """Makes this process, and those that it starts, clients of our own server at `url`, with its password."""
    os.environ["PREFECT_API_URL"] = url
    os.environ["PREFECT_API_AUTH_STRING"] = own_password(home)
    if "prefect.context" in sys.modules:  # imported already: it has read the environment
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def answers(url: str, timeout: float = HEALTH_SECONDS) -> bool:
    """Whether a Prefect server answers at the API address `url`."""
    try:
        return _status(f"{url}/health", timeout) == 200
    except (OSError, ValueError):
        return False


def works(url: str, timeout: float) -> bool:
    """Whether a server answers a request for which it writes to its database, which may be locked."""
    try:
        status = _status(f"{url}/csrf-token?client={uuid.uuid4()}", timeout, os.environ.get("PREFECT_API_AUTH_STRING"))
    except (OSError, ValueError):
        return False
    return status < 500


def _status(url: str, timeout: float, credentials: str | None = None) -> int:
    """Returns the status of a GET request.

    Raises:
        OSError: there is no answer within `timeout` seconds.
        ValueError: `url` is no address.
    """
    headers = {}
    if credentials:
        headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode("ascii")
    if not url.startswith(("http://", "https://")):
        raise ValueError("an address begins with http:// or https://")
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as reply:  # noqa: S310
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except HTTPException as error:  # no HTTP is spoken there, or the address has characters that none has
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def _shown(url: str) -> str:
    """Returns an address without the password that it may contain."""
    before, at, after = " ".join(url.split()).rpartition("@")
    return f"{before.partition('://')[0]}://...@{after}" if at else after


def unusable(home: Path, error: OSError) -> RunError:
    """Returns the error that PREFECT_HOME, `home`, cannot be used."""
    return RunError(
        f"Prefect's folder {home} cannot be used ({error.strerror or error}); it needs to be a folder of yours on a "
        "disk with free space: move it away, or choose another storage.root or PREFECT_HOME"
    )


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


def start_server(home: Path, mode: own_server.Mode) -> subprocess.Popen[bytes]:
    """Starts Prefect's own server for this process; returns its process at once, which ends after this one.

    Raises:
        OSError: `home` cannot be written.
    """
    listening = own_server.listen("127.0.0.1", 0)
    url = own_server.address_of(listening, "127.0.0.1")
    process = own_server.launch(home, listening, "127.0.0.1", mode)
    _own.append(_OwnServer(process, url))
    return process
