"""A real server, its pages, a worker and its schedule: songs on demand, scheduled, after a choice, after a kill."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from pipelines.orchestration import prefect_home
from tests.helpers.models.own_model import write_own_model
from tests.helpers.paths import ROOT
from tests.helpers.servers.prefect_site import TIMEOUT, Site, environment, free_port, running, server, serving, wait
from tests.helpers.servers.strangers import succeeded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS = ROOT / "outputs" / "screenshots"
NIGHTLY = "0 3 * * *"
LONG = "seconds=1.0"  # half a minute of sampling, so that it can be stopped in the middle

pytestmark = [pytest.mark.slow, pytest.mark.endurance, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all of this file."""
    folder = tmp_path_factory.mktemp("site")
    write_own_model(folder / "model")
    with server(folder) as site:
        yield site


@pytest.fixture(scope="module")
def base(site: Site) -> list[str]:
    """Overrides of every request: the smallest model, on one thread."""
    return [f"model={site.folder / 'model' / 'own.yaml'}", "hardware.threads=1", "runner.preview_seconds=null"]


@pytest.fixture
def served(site: Site, base: list[str]) -> Iterator[Site]:
    """The site with a worker, and a deployment with a nightly schedule."""
    with serving(site, "--cron", NIGHTLY, *base, "seconds=0.1"):
        yield site


def tokens(codes: Path) -> str:
    """A digest of all the codes files of a run."""
    summed = hashlib.sha256()
    for path in sorted(codes.glob("*.npz")):
        with np.load(path) as arrays:
            for name in sorted(arrays.files):
                if arrays[name].dtype.kind in "iu":
                    summed.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return summed.hexdigest()


def folder_of(site: Site, name: str) -> Path:
    return site.folder / "outputs" / name


def test_requests_schedule_choice_and_pages(served: Site, base: list[str], tmp_path: Path) -> None:
    """Several checks with one worker, as it takes a while to start."""
    refused_requests(served, base)
    run = on_demand(served, base)
    declared(served)
    scheduled(served)
    chosen = choice(served, base)
    if CHROMIUM is not None:
        pages(served, tmp_path, run, chosen)


def refused_requests(site: Site, base: list[str]) -> None:
    for bad in ("sampling.sed=1", "no such thing", "seconds", "+sampling.foo=1", "bogus.key=1"):
        status, answer = site.create([*base, bad])
        assert status == 409, answer
        assert f"'{bad}' does not match" in answer["detail"]
    assert site.create(base, colour="red")[0] == 409
    failing = site.start([*base, "sampling.seed=-4"])
    state = site.ended(failing)
    assert state["type"] == "FAILED"
    assert "request.overrides: sampling.seed is -4; it must be between 0" in state["message"]


def on_demand(site: Site, base: list[str]) -> str:
    run = site.start([*base, "seconds=0.1", "sampling.n_samples=2", "run.name=asked"])
    assert site.ended(run)["type"] == "COMPLETED"
    made = folder_of(site, "asked")
    assert sorted(path.name for path in made.glob("audio/*/*.wav")) == ["sample_0.wav", "sample_1.wav"] * 3 or [
        *made.glob("audio/level_0/sample_1.wav")
    ]
    shown = site.artifacts(run)
    assert shown["progress"] == 100
    assert '"level": 0' in shown["windows"]
    assert "audio/level_0/sample_1.wav" in shown["songs"]
    assert "report.html" in shown["report"]
    names = {task["name"].rpartition("-")[0] for task in site.ask("POST", "task_runs/filter", {})[1]}
    assert "sample window" in names
    again = site.start([*base, "seconds=0.1", "sampling.n_samples=2", "run.name=asked"])
    assert site.ended(again)["type"] == "COMPLETED"
    assert "windows" not in site.artifacts(again)  # all windows were stored
    return run


def declared(site: Site) -> None:
    """Deployments of prefect.yaml, made by Prefect's own command."""
    shutil.copy(ROOT / "prefect.yaml", site.folder)
    env = environment(site.folder, PREFECT_API_URL=site.url, PWD=str(site.folder))
    deploy = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        deploy, cwd=site.folder, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.deployment("nightly")["schedules"][0]["active"]
    own = [f"model={site.folder / 'model' / 'own.yaml'}", "hardware.threads=1"]
    run = site.start([*own, "seconds=0.05", "sampling.stop_level=2", "run.name=declared"], "on-demand")
    state = site.ended(run)
    assert state["type"] == "COMPLETED", state
    assert [*folder_of(site, "declared").glob("audio/level_2/*.wav")]


def scheduled(site: Site) -> None:
    deployment = site.deployment()
    [nightly] = deployment["schedules"]
    assert (nightly["schedule"]["cron"], nightly["active"]) == (NIGHTLY, True)
    assert deployment["parameters"]["request"]["new_seed"] is True
    soon = {"interval": 60, "anchor_date": (datetime.now(UTC) + timedelta(seconds=15)).isoformat()}
    path = f"deployments/{deployment['id']}/schedules"
    status, [added] = site.ask("POST", path, [{"schedule": soon, "active": True}])
    assert status == 201

    def begun() -> str | None:
        asked = {"flow_runs": {"deployment_id": {"any_": [deployment["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
        runs = site.ask("POST", "flow_runs/filter", asked)[1]
        early = [run for run in runs if run["auto_scheduled"] and run["state_type"] != "SCHEDULED"]
        return str(early[0]["id"]) if early else None

    run = wait("the scheduled run", begun)
    site.ask("DELETE", f"{path}/{added['id']}")
    assert site.ended(run)["type"] == "COMPLETED"


def choice(site: Site, base: list[str]) -> str:
    run = site.start([*base, "seconds=0.2", "sampling.n_samples=3", "choose=top", "run.name=sketch"])
    state = site.ended(run, "Suspended")
    assert state["name"] == "Suspended", state
    assert not (folder_of(site, "sketch") / "audio" / "level_0").exists()
    assert "sketch/audio/level_2/sample_2.wav" in site.artifacts(run)["choose"]

    def answer(choice: dict[str, Any]) -> tuple[str, str]:
        status, answer = site.ask("POST", f"flow_runs/{run}/resume", {"run_input": choice})
        assert status in (200, 201), answer
        return answer["status"], (answer.get("details") or {}).get("reason") or ""

    for wrong, why in (
        ({"sample": 3}, "3 is greater than the maximum of 2"),
        ({"sample": -1}, "-1 is less than the minimum of 0"),
        ({"keep_seconds": 9}, "9 is greater than or equal to the maximum of 0.2"),
        ({"smaple": 1}, "'smaple' was unexpected"),
    ):
        status, reason = answer(wrong)
        assert status == "REJECT"
        assert why in reason
    assert site.run(run)["state"]["name"] == "Suspended"

    assert answer({"sample": 2, "keep_seconds": 0.1})[0] == "ACCEPT"
    wait("the choice", lambda: site.run(run)["state"]["name"] != "Suspended")
    assert site.ended(run, "Suspended")["name"] == "Suspended"
    [again] = (site.folder / "outputs").glob("sketch-continue-*")
    assert len([*again.glob("audio/level_2/*.wav")]) == 3
    assert answer({"sample": 1})[0] == "ACCEPT"
    wait("the choice", lambda: site.run(run)["state"]["name"] != "Suspended")
    assert site.ended(run)["type"] == "COMPLETED"
    [final] = (site.folder / "outputs").glob("sketch*-upsample-*")
    assert [path.name for path in final.glob("audio/level_0/*")] == ["sample_0.wav"]
    kept = top_of(again, 1)
    assert np.array_equal(top_of(final, 0), kept)
    half = len(kept) // 2
    assert np.array_equal(kept[: half - 1], top_of(folder_of(site, "sketch"), 2)[: half - 1])
    assert not np.array_equal(kept, top_of(folder_of(site, "sketch"), 2))
    return run


def top_of(run: Path, sample: int) -> Any:
    with np.load(run / "codes" / f"sample_{sample}.npz") as arrays:
        return arrays["level_2"]


def pages(site: Site, folder: Path, run: str, chosen: str) -> None:
    """Prefect's pages in a browser."""
    here = site.url.removesuffix("/api") + "/v2"
    names = {name: site.run(identifier)["name"] for name, identifier in (("run", run), ("chosen", chosen))}
    artifact = next(
        each["id"]
        for each in site.ask("POST", "artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}})[1]
        if each["key"] == "songs"
    )
    missing: list[str] = []
    for name, path, texts in (
        ("dashboard", "dashboard", ["jukebox"]),
        ("run", f"runs/flow-run/{run}", [names["run"], "run asked in"]),
        ("artifacts", f"runs/flow-run/{run}?tab=Artifacts", ["windows", "songs"]),
        ("songs", f"artifacts/artifact/{artifact}", ["level_0/sample_0.wav"]),
        ("deployment", f"deployments/deployment/{site.deployment()['id']}", ["songs"]),
    ):
        shot = folder / f"prefect-{name}.png"
        dom = browse(f"{here}/{path}", folder / "profile", shot)
        if SCREENSHOTS.is_dir():
            shutil.copy(shot, SCREENSHOTS)
        with Image.open(shot) as picture:
            colours = picture.convert("RGB").getcolors(maxcolors=picture.width * picture.height)
        assert len(colours) > 50, f"{name} is blank"
        missing += [f"{name} does not show {text}" for text in texts if text not in dom]
    assert missing == []


def browse(url: str, profile: Path, shot: Path) -> str:
    """Returns the DOM of a page in a headless browser, after its scripts ran; writes a screenshot to `shot`."""
    assert CHROMIUM is not None
    flags = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        "--no-proxy-server", f"--user-data-dir={profile}", "--window-size=1400,1600", "--virtual-time-budget=30000",
    ]  # fmt: skip
    for more in ([f"--screenshot={shot}"], ["--dump-dom"]):
        done = subprocess.run([*flags, *more, url], capture_output=True, text=True, timeout=180, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def uninterrupted(site: Site, base: list[str]) -> str:
    """The tokens of the long run, made by the command line in another folder without a break."""
    folder = site.folder / "elsewhere"
    folder.mkdir()
    command = [sys.executable, "-m", "pipelines.cli.main", "generate", *base, LONG, "run.name=long"]
    env = environment(site.folder, PREFECT_API_URL=site.url)
    done = subprocess.run(command, cwd=folder, env=env, timeout=TIMEOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tokens(folder / "outputs" / "long" / "codes")


def long_run(site: Site, base: list[str], name: str) -> list[str]:
    """A request that takes a while: with a store of its own, as others have sampled the same song."""
    return [*base, LONG, f"run.name={name}", "storage.flush_tokens=64", f"storage.tokens={site.folder}/tokens-{name}"]


def test_a_run_that_is_stopped_without_its_worker_is_resumed_at_once(
    site: Site, base: list[str], uninterrupted: str
) -> None:
    with serving(site, "--name", "alone", *base):
        run = site.start(long_run(site, base, "alone"), "alone")
        log = folder_of(site, "alone") / "run.log"
        wait("sampling of the bottom level", lambda: log.is_file() and log.read_text().count("level 0  window") > 3)
        [tag] = [tag for tag in site.run(run)["tags"] if tag.startswith("process:")]
        os.kill(int(tag.split("/")[1]), signal.SIGTERM)
        assert site.ended(run, "AwaitingRetry", "Submitting", "Pending")["type"] in ("SCHEDULED", "PENDING")
        assert site.ended(run)["type"] == "COMPLETED"
    assert tokens(folder_of(site, "alone") / "codes") == uninterrupted


@pytest.mark.parametrize("killed", [False, True], ids=["SIGTERM", "SIGKILL"])
def test_a_run_continues_when_the_worker_is_back(site: Site, base: list[str], uninterrupted: str, killed: bool) -> None:
    name = "killed" if killed else "stopped"
    with serving(site, "--name", "night", "--cron", NIGHTLY, *base) as process:
        run = site.start(long_run(site, base, name), "night")
        log = folder_of(site, name) / "run.log"
        wait("sampling of the bottom level", lambda: log.is_file() and log.read_text().count("level 0  window") > 3)
        began = time.monotonic()
        if killed:
            [tag] = [tag for tag in site.run(run)["tags"] if tag.startswith("process:")]
            for victim in (process.pid, *workers(process.pid), int(tag.split("/")[1])):
                os.kill(victim, signal.SIGKILL)
            process.wait(30)
        else:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            print(f"SIGTERM to stopped: {time.monotonic() - began:.1f} s")
    windows = log.read_text().count("level 0  window")
    state = site.run(run)["state"]
    assert state["type"] == ("RUNNING" if killed else "SCHEDULED"), state
    assert site.deployment("night")["schedules"][0]["active"]
    assert not site.deployment("night")["paused"]

    with serving(site, "--name", "night", "--cron", NIGHTLY, *base):
        assert site.ended(run)["type"] == "COMPLETED"
    assert tokens(folder_of(site, name) / "codes") == uninterrupted
    repeated = log.read_text().count("level 0  window 0-256 ")
    assert repeated == 1, "a sealed window was sampled again"
    assert log.read_text().count("level 0  window") > windows
    left = site.ask("POST", "task_runs/filter", {"task_runs": {"state": {"type": {"any_": ["RUNNING"]}}}})[1]
    assert left == []


def workers(parent: int) -> list[int]:
    """The processes that a process started."""
    shown = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [int(line) for line in shown.stdout.split()]


def test_serve_starts_and_stops_its_own_server(site: Site, base: list[str], tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "serve.log"
    env = environment(site.folder)
    command = ["pipelines.cli.main", "serve", "--port", str(port), *base, "seconds=0.1", "run.name=asked"]
    with running(command, log, tmp_path, env) as process:
        wait("the start", lambda: process.poll() is not None or "ask for songs" in log.read_text())
        home = tmp_path / "outputs" / ".prefect"
        url = prefect_home.running_server(home)
        assert url == f"http://127.0.0.1:{port}/api", log.read_text()
        second = [sys.executable, "-m", "pipelines.cli.main", "serve", "--port", str(port), "bogus=1"]
        refused = subprocess.run(second, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert "bogus is not a setting" in refused.stderr
        password = (home / "password").read_text()
        assert succeeded(url, password) == []
        request = [sys.executable, "-m", "prefect", "deployment", "run", "jukebox/songs"]
        for given in ({}, {"PREFECT_API_AUTH_STRING": password}):
            client = environment(tmp_path, PREFECT_API_URL=url, PREFECT_HOME=str(tmp_path / "home"), **given)
            done = subprocess.run(request, cwd=tmp_path, env=client, capture_output=True, text=True, check=False)
            assert (done.returncode == 0) == bool(given), done.stdout + done.stderr
        report = tmp_path / "outputs" / "asked" / "report.html"
        wait("the song", lambda: report.is_file() or process.poll() is not None)
        assert password not in log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not prefect_home.answers(url)
    assert prefect_home.running_server(home) is None
