"""Prefect stays below the storage folder, a server that runs is used, and a server that does not answer is an error."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base.processes import name_of
from jukebox_core.errors import RunError
from pipelines.exit_status import exit_status
from pipelines.orchestration import database, prefect_home
from pipelines.orchestration.password import own_password
from tests.helpers.damage import damage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Health(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path in ("/api/health", "/api/admin/version") else 404)
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
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The servers that would be started."""
    found: list[list[str]] = []
    monkeypatch.setattr(prefect_home, "start_server", lambda home, mode: found.append([str(home), mode]))
    return found


def test_everything_of_prefect_is_below_the_storage(tmp_path: Path, started: list[list[str]]) -> None:
    prefect_home.use(str(tmp_path))
    assert os.environ["PREFECT_HOME"] == str(tmp_path / ".prefect")
    assert (os.environ["DO_NOT_TRACK"], os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"]) == ("1", "false")
    assert "PREFECT_API_URL" not in os.environ


def test_a_server_that_runs_is_used(tmp_path: Path, url: str, started: list[list[str]]) -> None:
    home = prefect_home.set_environment(str(tmp_path))
    prefect_home.record_server(home, url)
    prefect_home.use(str(tmp_path))
    assert os.environ["PREFECT_API_URL"] == url
    assert started == []


@pytest.mark.parametrize(
    "record",
    ["", "[]", "{}", json.dumps({"url": "http://127.0.0.1:9/api"}), json.dumps({"url": 5, "process": 5}), "\0"],
)
def test_a_record_of_a_server_that_is_gone_is_not_used(tmp_path: Path, record: str, started: list[list[str]]) -> None:
    home = prefect_home.set_environment(str(tmp_path))
    (home / "server.json").write_text(record)
    prefect_home.use(str(tmp_path))
    assert "PREFECT_API_URL" not in os.environ
    assert started == [[str(tmp_path / ".prefect"), "ephemeral"]]


def test_a_record_of_a_process_that_has_ended_is_not_used_though_another_program_answers_at_its_port(
    tmp_path: Path, url: str, started: list[list[str]]
) -> None:
    home = prefect_home.set_environment(str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    process = name_of(ended.pid)
    ended.wait()
    (home / "server.json").write_text(json.dumps({"url": url, "process": process}))
    prefect_home.use(str(tmp_path))
    assert "PREFECT_API_AUTH_STRING" not in os.environ


def test_a_server_that_is_too_busy_to_answer_is_used_and_no_second_one_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[list[str]]
) -> None:
    monkeypatch.setattr(prefect_home, "HEALTH_SECONDS", 0.2)
    home = prefect_home.set_environment(str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as busy:
        url = f"http://127.0.0.1:{busy.getsockname()[1]}/api"
        prefect_home.record_server(home, url)
        connection = prefect_home.connect(str(tmp_path))
        assert (connection.url, connection.process) == (url, None)
    assert started == []
    assert prefect_home.running_server(home) is None, "nobody listens there any more"


@pytest.mark.parametrize("kind", ["folder", "full folder", "pipe", "dangling link", "loop", "device"])
def test_what_is_in_the_place_of_a_file_of_prefects_folder_is_kept_under_another_name(
    tmp_path: Path, kind: str, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_upgrade", lambda: None)
    home = tmp_path / ".prefect"
    home.mkdir()
    names = ["password", "password.lock", "database.lock", "database.version", "server.json", "server.log"]
    for name in names:
        (home / name).write_text("content")
        damage(home / name, kind)
    prefect_home.use(str(tmp_path))
    database.prepare_database(home)  # as the server's process does
    password = own_password(home)
    assert (home / "password").read_text() == password
    for name in names:
        assert os.path.lexists(home / f"{name}.damaged")
        assert not os.path.lexists(home / name) or (home / name).is_file()


def test_the_password_is_given_to_our_own_server_only(tmp_path: Path, url: str) -> None:
    home = prefect_home.set_environment(str(tmp_path))
    os.environ["PREFECT_API_URL"] = url
    prefect_home.use(str(tmp_path))  # a server of others
    assert "PREFECT_API_AUTH_STRING" not in os.environ
    prefect_home.record_server(home, url)
    prefect_home.use(str(tmp_path))
    assert os.environ["PREFECT_API_AUTH_STRING"] == own_password(home)


def test_a_named_server_that_is_gone_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
    with pytest.raises(
        RunError, match=rf"PREFECT_API_URL is http://127\.0\.0\.1:{port}/api, but no server answers"
    ) as caught:
        prefect_home.use(str(tmp_path))
    assert exit_status(caught.value) == 1
    assert "\n" not in str(caught.value)


def test_a_named_server_that_never_answers_is_asked_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_home, "NAMED_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/api")
        with pytest.raises(RunError, match=r"no server answers there \(timed out\)"):
            prefect_home.use(str(tmp_path))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:4200/api", "an address begins with http:// or https://"),
        ("http://[oops/api", "no server answers"),
        ("http://user:secret@127.0.0.1:9/api", "PREFECT_API_URL is http://...@127.0.0.1:9/api"),
        ("http://127.0.0.1:999999/api", "no server answers"),
        ("http://exa mple/\napi", "no server answers"),
    ],
)
def test_a_named_address_that_is_none_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", address)
    with pytest.raises(RunError) as caught:
        prefect_home.use(str(tmp_path))
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "message"), [(401, "asks for a password"), (404, "no Prefect server answers"), (503, "status 503")]
)
def test_a_named_server_that_refuses_is_an_error(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, status: int, message: str
) -> None:
    monkeypatch.setattr(_Health, "status", status)
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(RunError, match=message):
        prefect_home.use(str(tmp_path))


def test_variables_of_the_user_take_precedence(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefect_home.record_server(prefect_home.set_environment(str(tmp_path)), "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_API_URL", url)
    prefect_home.use(str(tmp_path))
    assert os.environ["PREFECT_API_URL"] == url


def test_a_server_of_a_profile_is_one_that_the_user_named(tmp_path: Path, url: str) -> None:
    home = prefect_home.set_environment(str(tmp_path))
    (home / "profiles.toml").write_text(f'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "{url}"\n')
    assert prefect_home.named_server(home) == url
    (home / "profiles.toml").write_text("active = 5")
    assert prefect_home.named_server(home) is None


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "inside.example")
    monkeypatch.setenv("PREFECT_API_URL", url)
    prefect_home.use(str(tmp_path))  # asks the server
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "inside.example,127.0.0.1,::1,localhost"
    assert urllib.request.proxy_bypass("127.0.0.1:4200")
    assert not urllib.request.proxy_bypass("elsewhere.example")


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / ".prefect").write_text("a file")
    with pytest.raises(RunError, match=r"\.prefect cannot be used \(File exists\)"):
        prefect_home.use(str(tmp_path))


def test_damaged_profiles_are_an_error_that_names_them(tmp_path: Path) -> None:
    home = prefect_home.set_environment(str(tmp_path))
    profiles = home / "profiles.toml"
    profiles.write_text("[[[")
    with pytest.raises(RunError, match=r"profiles.toml is not TOML"):
        prefect_home.named_server(home)
    profiles.unlink()
    os.mkfifo(profiles)
    with pytest.raises(RunError, match=r"profiles.toml is not a file; move it away"):
        prefect_home.named_server(home)


def test_a_server_that_is_started_for_a_journal_is_not_waited_for(tmp_path: Path, started: list[list[str]]) -> None:
    connection = prefect_home.connect(str(tmp_path))
    assert started == [[str(tmp_path / ".prefect"), "background"]]
    assert (connection.named, connection.url) == (None, None)
    assert "PREFECT_API_URL" not in os.environ


def test_a_server_that_runs_has_the_journals_with_its_own_password(tmp_path: Path, url: str) -> None:
    home = prefect_home.set_environment(str(tmp_path))
    prefect_home.record_server(home, url)
    connection = prefect_home.connect(str(tmp_path))
    assert (connection.named, connection.url, connection.password) == (None, url, own_password(home))
    assert prefect_home.connect(str(tmp_path)) == connection, "its address in the environment is our own"
