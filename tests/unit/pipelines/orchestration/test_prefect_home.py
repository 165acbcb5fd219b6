"""Prefect stays below the storage folder, its database is migrated once, and a running server is used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import pytest

from jukebox_core.base.processes import own_name
from jukebox_core.errors import RunError
from pipelines.orchestration import prefect_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """A loopback server that answers the health check of a Prefect server."""
    with HTTPServer(("127.0.0.1", 0), _Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    for name in before:
        if name.startswith(("PREFECT_", "JUKEBOX_")):
            monkeypatch.delenv(name)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would be run; all succeed, and no server is started."""
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(prefect_home, "start_server", lambda: None)
    return ran


class _Setting(NamedTuple):
    of_the_user: str | bool

    def value(self) -> str | bool:
        return self.of_the_user


def stand_in_for_prefect(monkeypatch: pytest.MonkeyPatch, server: type, url: str = "", own: bool = True) -> None:
    """Replaces the parts of Prefect that `start_server` imports, which takes seconds."""
    names = ("prefect", "prefect.server", "prefect.server.api", "prefect.server.api.server", "prefect.settings")
    modules = {name: ModuleType(name) for name in names}
    settings = modules["prefect.settings"].__dict__
    settings["PREFECT_API_URL"], settings["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = _Setting(url), _Setting(own)
    modules["prefect.server.api.server"].__dict__["SubprocessASGIServer"] = server
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_an_interrupt_does_not_reach_the_server_that_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    blocked: list[str] = []

    class Server:
        def start(self) -> None:
            program = "import signal; print(*signal.pthread_sigmask(signal.SIG_BLOCK, []))"
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            blocked.append(done.stdout.strip())

    stand_in_for_prefect(monkeypatch, Server)
    prefect_home.start_server()
    assert blocked == [str(signal.SIGINT)]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    stand_in_for_prefect(monkeypatch, Server, url="http://elsewhere/api")
    prefect_home.start_server()
    stand_in_for_prefect(monkeypatch, Server, own=False)
    prefect_home.start_server()
    assert len(blocked) == 1


def test_a_server_that_does_not_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        def start(self) -> None:
            raise RuntimeError("it took too long")

    stand_in_for_prefect(monkeypatch, Server)
    with pytest.raises(RuntimeError, match="it took too long"):
        prefect_home.start_server()


def test_everything_of_prefect_is_below_the_storage(tmp_path: Path, commands: list[list[str]]) -> None:
    prefect_home.use(str(tmp_path))
    assert os.environ["PREFECT_HOME"] == str(tmp_path / ".prefect")
    assert (os.environ["DO_NOT_TRACK"], os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"]) == ("1", "false")
    assert os.environ[prefect_home.OWNER] == own_name()
    assert "PREFECT_API_URL" not in os.environ


def test_the_database_is_set_up_once(tmp_path: Path, commands: list[list[str]]) -> None:
    for _ in range(3):
        prefect_home.use(str(tmp_path))
    assert commands == [[sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]]


def test_a_database_of_another_version_is_set_up_again(tmp_path: Path, commands: list[list[str]]) -> None:
    prefect_home.use(str(tmp_path))
    (tmp_path / ".prefect" / "database.version").write_text("0.0.1")
    prefect_home.use(str(tmp_path))
    assert len(commands) == 2


def test_a_database_that_cannot_be_set_up_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "first\nOperationalError: disk is full\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RunError, match=r"cannot be set up \(OperationalError: disk is full\)"):
        prefect_home.use(str(tmp_path))
    assert not (tmp_path / ".prefect" / "database.version").exists()


def test_a_server_that_runs_is_used(tmp_path: Path, url: str, commands: list[list[str]]) -> None:
    home = prefect_home.set_environment(str(tmp_path))
    prefect_home.record_server(home, url)
    prefect_home.use(str(tmp_path))
    assert os.environ["PREFECT_API_URL"] == url
    assert commands == []


@pytest.mark.parametrize("record", ["", "[]", "{}", json.dumps({"url": "http://127.0.0.1:9/api"})])
def test_a_record_of_a_server_that_is_gone_is_not_used(tmp_path: Path, record: str, commands: list[list[str]]) -> None:
    home = prefect_home.set_environment(str(tmp_path))
    (home / "server.json").write_text(record)
    prefect_home.use(str(tmp_path))
    assert "PREFECT_API_URL" not in os.environ
    assert len(commands) == 1


def test_variables_of_the_user_take_precedence(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefect_home.record_server(prefect_home.set_environment(str(tmp_path)), url)
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    prefect_home.use(str(tmp_path))
    assert os.environ["PREFECT_API_URL"] == "http://elsewhere/api"


@pytest.mark.slow
def test_parallel_processes_set_up_a_fresh_folder_once(tmp_path: Path) -> None:
    program = (
        "from pipelines.orchestration import prefect_home\n"
        f"prefect_home.prepare_database(prefect_home.set_environment({str(tmp_path)!r}))\n"
        "from pathlib import Path\n"
        f"print(Path({str(tmp_path / '.prefect' / 'database.version')!r}).stat().st_mtime_ns)\n"
    )
    racing = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [process.communicate(timeout=300) for process in racing]
    assert [process.returncode for process in racing] == [0, 0, 0], ended
    assert len({out for out, _ in ended}) == 1
