"""Options of `jukebox serve` and parameters of a request, and how mistakes are answered. No server is started."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml

from jukebox_core.errors import ConfigError, RunError
from pipelines.cli.serve import parse
from pipelines.serving import credentials, serve
from pipelines.settings.compose import GENERATE, compose
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from pathlib import Path

    from pipelines.serving.serve import Serving


def test_overrides_and_flags_may_be_mixed() -> None:
    serving = parse(["seconds=9", "--cron", "0 3 * * *", "song.genre=waltz", "--name", "nightly", "--limit=2"])
    assert serving is not None
    assert (serving.name, serving.cron, serving.limit) == ("nightly", "0 3 * * *", 2)
    assert serving.overrides == ("seconds=9", "song.genre=waltz")


@pytest.mark.parametrize(
    ("arguments", "new_seed"),
    [([], False), (["--cron", "0 3 * * *"], True), (["--cron", "0 3 * * *", "sampling.seed=4"], False)],
)
def test_a_schedule_makes_new_songs_unless_a_seed_is_given(arguments: list[str], new_seed: bool) -> None:
    serving = parse(arguments)
    assert serving is not None
    assert serving.request["new_seed"] is new_seed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sampling.sed=1"], "sampling.sed is not a setting; closest: 'seed'"),
        (["--corn", "x"], "serve has no option --corn; choose one of --name, --cron,"),
        (["--corn", "x"], "; closest: '--cron'"),
        (["--port", "x"], "serve: --port is 'x', which is not a whole number"),
        (["--role", "sever"], "--role is 'sever', which is not one of 'both', 'server', 'worker'; closest: 'server'"),
        (["--limit", "0"], "--limit is 0; it must be 1 or more"),
        (["--limit", "9" * 30], "it must be 1 or more, and at most 10,000"),
        (["--limit", "9" * 5000], "which is not a whole number"),
        (["--port", "99999999"], "--port is 99999999; it must be from 1 to 65535"),
        (["--port", "0"], "--port is 0; it must be from 1 to 65535"),
        (["--port", "-1"], "--port is -1; it must be from 1 to 65535"),
        (["--name", "a/b"], "--name is 'a/b'; it must be a plain folder name"),
        (["--name", "a\nb"], r"--name is 'a\nb', which has the control character '\n'"),
        (["--name", "x" * 300], "300 bytes long; a name has at most 200"),
        (["--host", "ho st"], "--host is 'ho st'; give an address of this machine"),
        (["--host", ".." * 99], "give an address of this machine"),
    ],
)
def test_a_mistake_is_refused_before_anything_starts(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(arguments)
    assert message in str(caught.value)


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    serving = parse([f"storage.root={tmp_path}"])
    assert serving is not None
    return serving


def test_help_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--help"]) is None
    assert "--timezone" in capsys.readouterr().out


@pytest.fixture
def links(serving: Serving, tmp_path: Path) -> Iterator[str]:
    """The address of a server of run folders, with a run and a store."""
    (tmp_path / "run" / "audio").mkdir(parents=True)
    (tmp_path / "run" / "audio" / "a b.wav").write_bytes(b"0123456789")
    (tmp_path / ".store").mkdir()
    (tmp_path / ".store" / "tokens").write_bytes(b"secret")
    (tmp_path / "run" / "outside").symlink_to("/etc")
    with serve.run_file_server(serving) as address:
        yield address


def ask(address: str, **headers: str) -> tuple[int, bytes, Message]:
    """Status, content and headers of the answer to a GET request."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with opener.open(urllib.request.Request(address, headers=sent), timeout=10) as reply:
            return reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def test_only_the_files_of_runs_are_served(links: str) -> None:
    assert ask(f"{links}/run/audio/a%20b.wav")[:2] == (200, b"0123456789")
    hidden = ("", "run/", ".store/tokens", "%2estore/tokens", "run/../.store/tokens", "../../etc/passwd")
    for path in (
        *hidden,
        "run/outside/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "run/%00",
        "run/" + "x" * 300,
        "//etc/passwd",
    ):
        assert ask(f"{links}/{path}")[0] == 404, path


def test_strangers_read_no_files(links: str) -> None:
    path = "/run/audio/a%20b.wav"
    host = links.partition("//")[2].partition("/")[0]
    assert ask(f"http://{host}{path}")[0] == 404  # without the secret
    assert ask(f"http://{host}/guess{path}")[0] == 404
    assert ask(links + path, Host="evil.example")[0] == 421
    assert ask(links + path, Origin="http://evil.example")[0] == 403
    status, _, headers = ask(links + path, Origin=f"http://{host}")
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] is None
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("asked", "status", "content", "range_"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=0-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
    ],
)
def test_a_browser_can_seek(links: str, asked: str, status: int, content: bytes | None, range_: str) -> None:
    got, read, headers = ask(f"{links}/run/audio/a%20b.wav", Range=asked)
    assert got == status
    assert content in (None, read)
    assert headers["Content-Range"].removeprefix("bytes ") == range_.removeprefix("bytes ")
    whole = ask(f"{links}/run/audio/a%20b.wav")[2]
    assert whole["Accept-Ranges"] == "bytes"
    if status == 206:
        assert ask(f"{links}/run/audio/a%20b.wav", Range=asked, If_Range=whole["ETag"])[0] == 206
        assert ask(f"{links}/run/audio/a%20b.wav", Range=asked, If_Range='"older"')[:2] == (200, b"0123456789")


@pytest.mark.parametrize(("host", "reason"), [("no.such.host.invalid", "choose another"), ("203.0.113.1", "assign")])
def test_an_address_that_cannot_be_used_is_an_error_of_one_line(serving: Serving, host: str, reason: str) -> None:
    with pytest.raises(RunError, match=reason), serve.run_file_server(replace(serving, host=host)):
        pass


WITH_CREDENTIALS = (
    "weights.mirrors=[https://me:hunter2@host/x]",
    "weights.mirrors=['https://host/x?sig=hunter2']",
    "+weights.substitute=https://hunter2@host/x",
    "weights={mirrors: [s3://one/x, s3://key:hunter2@bucket/x]}",
    "weights.mirrors=[s3://key:hun/ter2@bucket/x]",
    "storage.tokens=s3://key:hunter2@bucket",
    "runner.address=tls://me:hunter2@host:8786",
    "hydra.searchpath=[s3://key:hunter2@bucket/conf]",
    "model.files.weight_sources=[lfs+https://a/x.git#https://me:hunter2@raw/x]",
)
WITHOUT = (
    "weights.mirrors=[https://host:8080/x,hf://owner/name@main,'abfss://box@account.example/x']",
    "weights.mirrors=[s3://bucket/x]",
    "runner.address=tcp://127.0.0.1:8786",
    "runner.address=ray://[::1]:10001",
    "song.lyrics='https://me:pw@host/?a=b'",
    "storage.tokens=s3://bucket/prefix",
    "model=/my/me@model.yaml",
)


@pytest.mark.parametrize("override", WITH_CREDENTIALS)
def test_credentials_are_refused_in_overrides_of_a_deployment(override: str) -> None:
    """Prefect would store them as text."""
    with pytest.raises(ConfigError) as caught:
        parse(["seconds=9", override])
    name = override.partition("=")[0]
    assert str(caught.value).startswith(f"{name} has a user, password or query in an address")
    assert "ter2" not in str(caught.value)


def test_addresses_without_credentials_are_not_refused() -> None:
    credentials.refuse_credentials(WITHOUT)


@pytest.mark.slow
def test_an_override_that_names_no_setting_does_not_fit_the_schema_of_a_request() -> None:
    from pipelines.serving.deploy import GenerateRequest  # imports Prefect

    pattern = GenerateRequest.model_json_schema()["properties"]["overrides"]["items"]["pattern"]
    fits = re.compile(pattern).search
    good = (
        "seconds=3", "sampling=top_only", "sampling.seed=1", "sampling.level_2.temperature=0.9", "+experiment=demo",
        "experiment=demo", "song.lyrics=one\ntwo = three", "songs=[{artist: x}]", "songs.0.artist=x", "~song",
        "choose=top", "model=/my/model.yaml", "hydra.searchpath=[file:///conf]", "storage.tokens=s3://bucket/prefix",
        *WITHOUT,
    )  # fmt: skip
    bad = (
        "sampling.sed=1",
        "sampling.sed.x=1",
        "seconds",
        "bogus=1",
        "bogus.key=1",
        "+sampling.foo=1",
        "",
        "=1",
        "song.=x",
        *WITH_CREDENTIALS,
    )
    assert [text for text in good if not fits(text)] == []
    assert [text for text in bad if fits(text)] == []


@pytest.mark.slow
def test_a_request_has_the_errors_of_the_command_line() -> None:
    from pydantic import ValidationError

    from pipelines.serving.deploy import GenerateRequest

    assert GenerateRequest(overrides=["seconds=9"]).overrides == ["seconds=9"]
    with pytest.raises(ConfigError) as refused:
        compose(GENERATE, ["sampling.seed=-1", "seconds=x"])
    with pytest.raises(ValidationError) as caught:
        GenerateRequest(overrides=["sampling.seed=-1", "seconds=x"])
    assert [error["msg"] for error in caught.value.errors()] == [str(refused.value)]


@pytest.mark.slow
def test_the_deployments_in_the_file_are_requests_that_can_be_made() -> None:
    from pipelines.serving.deploy import GenerateRequest

    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))
    for deployment in declared["deployments"]:
        GenerateRequest(**deployment["parameters"]["request"])
        assert deployment["entrypoint"] == serve.ENTRYPOINT
        assert deployment["work_pool"]["name"] == serve.POOL
