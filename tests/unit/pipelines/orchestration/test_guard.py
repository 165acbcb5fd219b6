"""Which requests a server of ours answers: those to its own names, from its own pages or from no page."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from pipelines.orchestration import server_process
from pipelines.orchestration.guard import Guard, own_names
from pipelines.orchestration.password import own_password

if TYPE_CHECKING:
    from pathlib import Path


async def passed_on(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"secret"})


def ask(guard: Guard, *headers: tuple[str, str], kind: str = "http") -> dict[str, Any]:
    """The first message of the answer to a request with these headers."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    asyncio.run(guard({"type": kind, "headers": raw}, None, send))  # type: ignore[arg-type]
    return sent[0]


LOCAL = Guard(passed_on, "127.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "localhost:9999", "LOCALHOST", "[::1]:4200", "localhost.:1"])
def test_requests_of_programs_and_of_our_own_pages_are_answered(host: str) -> None:
    assert ask(LOCAL, ("Host", host))["status"] == 200
    assert ask(LOCAL, ("Host", host), ("Origin", f"http://{host}"))["status"] == 200
    assert ask(LOCAL, ("Host", host), ("Origin", f"https://{host}"))["status"] == 200  # a tunnel with TLS


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:4200", "127.0.0.1.evil.example", "localhost@evil.example", "0.0.0.0:4200", "",
        "127.0.0.1:4200, evil.example", "localhost/", "[::1", "192.168.1.7:4200", "localhost:port",
        "127.1", "2130706433",
    ],
)  # fmt: skip
def test_requests_to_other_hosts_are_refused(host: str) -> None:
    assert ask(LOCAL, ("Host", host))["status"] == 421


def test_requests_without_a_host_or_with_two_are_refused() -> None:
    assert ask(LOCAL)["status"] == 421
    assert ask(LOCAL, ("Host", "localhost"), ("Host", "evil.example"))["status"] == 421


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "", "http://localhost:3000", "http://127.0.0.1", "file://", "*",
        "http://localhost:4200.evil.example", "chrome-extension://localhost:4200",
    ],
)  # fmt: skip
def test_requests_of_other_pages_are_refused(origin: str) -> None:
    assert ask(LOCAL, ("Host", "localhost:4200"), ("Origin", origin))["status"] == 403
    closed = ask(LOCAL, ("Host", "localhost:4200"), ("Origin", origin), kind="websocket")
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)


def test_a_proxy_that_the_user_allowed_is_answered_and_a_star_allows_nobody() -> None:
    proxied = Guard(passed_on, "127.0.0.1", ["https://songs.example"])
    assert ask(proxied, ("Host", "songs.example"), ("Origin", "https://songs.example"))["status"] == 200
    assert ask(Guard(passed_on, "127.0.0.1", ["*"]), ("Host", "x:1"), ("Origin", "http://y"))["status"] == 421
    assert ask(Guard(passed_on, "127.0.0.1", ["*"]), ("Host", "localhost"), ("Origin", "http://y"))["status"] == 403


def test_a_server_at_another_address_has_that_name_and_one_at_all_addresses_those_of_the_machine() -> None:
    assert "10.0.0.1" in own_names("10.0.0.1")
    assert own_names("127.0.0.1") == {"127.0.0.1", "localhost", "::1"}
    everywhere = own_names("0.0.0.0")
    assert os.uname().nodename.lower() in everywhere
    assert not everywhere & {"0.0.0.0", "::", "", "evil.example"}


def test_the_password_is_made_once_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    made, path = own_password(tmp_path), tmp_path / "password"
    assert own_password(tmp_path) == made == path.read_text()
    assert len(made) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert own_password(tmp_path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for damaged in (b"", b"short", b"\xff\xfe" * 30, b"a:" + b"x" * 5000):
        path.write_bytes(damaged)
        assert own_password(tmp_path) != damaged.decode("latin-1")
    path.rename(tmp_path / "secret")
    path.symlink_to(tmp_path / "secret")
    assert own_password(tmp_path) == (tmp_path / "secret").read_text(), "a link to a password is the user's own"
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:mine")
    assert own_password(tmp_path) == "me:mine"


def test_the_log_of_a_server_is_bounded(tmp_path: Path) -> None:
    log = server_process.BoundedLog(tmp_path / "log", limit=1000)
    for number in range(500):
        print(f"line {number} \udcff", file=log)
    assert "line 499" in (tmp_path / "log").read_text("utf-8")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2100
    assert server_process.BoundedLog(tmp_path / "missing" / "log").write("lost") == 4
