"""Fixtures that every test folder shares."""

from __future__ import annotations

import gc
import importlib.util
import logging
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.helpers import engines
from tests.helpers.exports import Exports
from tests.helpers.golden import golden_source, unpack
from tests.helpers.paths import SHARED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.servers.servers import Gate, S3Server, Site

# The duration of an example depends on the load of the machine. The same examples are drawn each time, so that a commit
# is not blocked by an old fault; `--hypothesis-profile explore`, in `make test-endurance`, draws others.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        metavar="DIR",
        type=Path,
        default=None,
        help="folder of golden vectors (default: ../shared/golden where that exists, else tests/golden)",
    )
    parser.addoption(
        "--golden-mt3",
        metavar="DIR",
        type=Path,
        default=None,
        help="folder of golden vectors of MT3 (default: ../shared/golden_mt3 where that exists, else tests/golden_mt3)",
    )
    parser.addoption(
        "--golden-vampnet",
        metavar="DIR",
        type=Path,
        default=None,
        help="the same of VampNet (default: ../shared/golden_vampnet where that exists, else tests/golden_vampnet)",
    )
    parser.addoption(
        "--engine",
        default="eager",
        choices=["eager", "native", "compiled", "graph"],
        help="how the priors of parity and property tests compute their steps",
    )


def pytest_configure(config: pytest.Config) -> None:
    engines.chosen = config.getoption("--engine")


def pytest_collection_finish() -> None:
    """Excludes the objects loaded so far, half a million, from later garbage collections."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of golden vectors; tests of absent files are skipped by name."""
    return _unpacked(golden_source(request.config), tmp_path_factory)


@pytest.fixture(scope="session")
def golden_mt3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of golden vectors of MT3; tests of absent bundles are skipped by name."""
    return _unpacked(golden_source(request.config, "golden_mt3"), tmp_path_factory)


@pytest.fixture(scope="session")
def golden_vampnet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of golden vectors of VampNet; tests of absent files are skipped by name."""
    return _unpacked(golden_source(request.config, "golden_vampnet"), tmp_path_factory)


def _unpacked(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(source, tmp_path_factory.mktemp("golden")) if any(source.rglob("*.xz")) else source


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests measured: the properties that they recorded under the name `figures`."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    lines = [value for each in reports for name, value in getattr(each, "user_properties", ()) if name == "figures"]
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(str(line))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout with vocabularies and clips; absent in a fresh clone."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent")
    return SHARED


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server that tests share; it holds the empty bucket ``store``, in which each makes a prefix of its own."""
    for package in ("moto", "s3fs"):  # not imported here: that takes a second
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    from tests.helpers.servers.servers import S3Server

    server = S3Server(tmp_path_factory.mktemp("s3") / "log")
    server.make_bucket("store")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def s3_configured(s3_server: S3Server) -> Iterator[S3Server]:
    """The S3 server, with its variables in the environment while tests of one file run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        yield s3_server


@pytest.fixture(scope="module")
def s3_gate(s3_configured: S3Server) -> Iterator[Gate]:
    """A proxy in front of the server, which fails as tests of one file require."""
    from tests.helpers.servers.servers import gate_before

    with gate_before(s3_configured.url) as gate:
        yield gate


@pytest.fixture
def gated_uri(s3_gate: Gate) -> Iterator[str]:
    """A prefix of the test's own in the bucket; before and after the test the gate passes all requests."""
    s3_gate.mode, s3_gate.times = "pass", 10**9
    yield f"s3://store/{uuid.uuid4().hex}"
    s3_gate.mode = "pass"


@pytest.fixture
def plain_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads without retries after pauses, in an environment without the variables that concern them."""
    monkeypatch.setattr("jukebox_core.models.download.fetch.PAUSES", ())
    monkeypatch.setenv("no_proxy", "*")
    for variable in ("HF_HUB_OFFLINE", "JUKEBOX_ACCEPT_LICENCE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    """A server with the files of a small model."""
    from tests.helpers.models.small_entries import CONTENT
    from tests.helpers.servers.servers import serving

    with serving({**CONTENT, "ids/a.txt": b"x;0\n", "ids/g.txt": b"y;0\n"}) as running:
        yield running


@pytest.fixture
def small_model(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a small model's preset; its sources count as those of released models."""
    from tests.helpers.models.small_entries import entry

    sources = {"http://127.0.0.1:9/down", site.url}
    monkeypatch.setattr("jukebox_core.models.resolve.released_sources", lambda: sources)
    return str(entry(site, tmp_path))


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server that tests share."""
    from tests.helpers.servers.prefect_server import prefect_server

    with prefect_server(tmp_path_factory.mktemp("prefect")) as address:
        yield address


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    """One thread, so that sums are added in one order; only where a test has loaded torch, which takes seconds."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def plain_loggers() -> None:
    """Gives each test the project's loggers as in a new process: commands and Prefect configure them."""
    for name in ("jukebox", "jukebox.store"):
        logger = logging.getLogger(name)
        logger.propagate, logger.disabled = True, False
        logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def exports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Graphs of small models, kept in pytest's cache folder, which workers share."""
    kept = getattr(request.config, "cache", None)  # there is none with `-p no:cacheprovider`
    folder = tmp_path_factory.mktemp("exports") if kept is None else kept.mkdir("exports")
    return Exports.below(folder)
