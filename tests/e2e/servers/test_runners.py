"""Runner, schedule, number of machines and killed workers do not change the tokens of a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from jukebox_core.audio.files import read_audio
from jukebox_core.store.store import TokenStore
from tests.helpers.models.own_model import write_own_model
from tests.helpers.servers.servers import S3Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BIN = Path(sys.executable).parent
KINDS = ("threads", "dask", "ray")
SHORT = ("seconds=0.1", "sampling.level_2.hop_fraction=0.5")  # 2 windows of the top level, 2 and 4 of the ones below
LONG = ("seconds=0.3", "sampling.level_2.hop_fraction=0.5", "storage.flush_tokens=8")
TIMEOUT = 300  # seconds: the machine may be busy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.endurance,
    pytest.mark.skipif(not (BIN / "jukebox").is_file(), reason="not installed"),
]


@dataclass(frozen=True)
class Bench:
    """A model, a Prefect server, and a folder for each run."""

    folder: Path
    prefect: str

    def start(self, name: str, *overrides: str, **environment: str) -> subprocess.Popen[str]:
        """Starts a run in a folder of its own, with a store of its own unless `overrides` name another."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "JUKEBOX_", "AWS_"))}
        own = {"HOME": str(home), "JUKEBOX_WEIGHTS": str(home / "weights"), "PREFECT_API_URL": self.prefect}
        fixed = ("sampling.n_samples=4", "hardware.device=cpu", "hardware.threads=1", "output.report=false")
        return subprocess.Popen(
            [BIN / "jukebox", "generate", f"model={self.folder / 'own.yaml'}", "run.name=made", *fixed, *overrides],
            cwd=home,
            env=kept | own | {"NO_PROXY": "127.0.0.1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, name: str, *overrides: str, **environment: str) -> str:
        """Runs a command to its end; returns its output."""
        with self.start(name, *overrides, **environment) as process:
            said, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, said
        return said

    def store(self, name: str) -> Path:
        """The run's own token store."""
        return self.folder / name / "outputs" / ".store"

    def made(self, name: str) -> Path:
        """The run's folder."""
        return self.folder / name / "outputs" / "made"

    def windows(self, name: str) -> dict[str, bytes]:
        """The sealed windows in the run's own store."""
        return {path.name: path.read_bytes() for path in (self.store(name) / "windows").rglob("*.safetensors")}


@pytest.fixture(scope="module")
def bench(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("runners")
    write_own_model(folder, scale=4.0)
    return Bench(folder, prefect_api)


@pytest.fixture(scope="module")
def short(bench: Bench) -> dict[str, bytes]:
    """The windows of a short run that one worker made, in order."""
    bench.run("short", *SHORT)
    return bench.windows("short")


@pytest.fixture(scope="module")
def long(bench: Bench) -> dict[str, bytes]:
    """The windows of a longer run that one worker made, in order."""
    bench.run("long", *LONG)
    return bench.windows("long")


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes below one; those that end meanwhile are left out."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def sampling_worker(process: subprocess.Popen[str], kind: str) -> psutil.Process | None:
    """A worker process that computes now: Ray names them; a Dask worker is a spawned process that uses the CPU."""
    for each in descendants(process):
        said = command_line(each)
        if kind == "ray" and said.startswith("ray::sample window"):
            return each
        if kind == "dask" and "spawn_main" in said:
            try:
                if each.cpu_percent(0.3) > 5:
                    return each
            except psutil.NoSuchProcess:
                continue
    return None


def wait_for(process: subprocess.Popen[str], found: Path, pattern: str) -> None:
    """Waits until a file appears."""
    deadline = time.monotonic() + TIMEOUT
    while not any(found.rglob(pattern)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no {pattern} in {found}"
        time.sleep(0.02)


@pytest.mark.parametrize(("kind", "order"), [("threads", "by_level"), ("dask", "wavefront"), ("ray", "by_level")])
def test_any_runner_and_number_of_shards_gives_the_same_windows(
    bench: Bench, short: dict[str, bytes], kind: str, order: str
) -> None:
    choice = (f"runner={kind}", "runner.workers=2", f"runner.schedule={order}", "storage.root=cut-${runner.shards}")
    bench.run(kind, "--multirun", *SHORT, *choice, "runner.shards=1,2,4")
    for shards in (1, 2, 4):
        windows = (bench.folder / kind / f"cut-{shards}" / ".store" / "windows").rglob("*.safetensors")
        assert {path.name: path.read_bytes() for path in windows} == short


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_repaired_by_every_runner(bench: Bench, short: dict[str, bytes], kind: str) -> None:
    name = f"damaged-{kind}"
    sketched = bench.run(name, *SHORT, "sampling.stop_level=2", "run.name=top")
    assert "first level 2 sound" in sketched
    assert "final sound" not in sketched, "sound of a sketch is not final"
    windows = sorted(bench.windows(name))
    path = next((bench.store(name) / "windows").rglob(windows[0]))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    said = bench.run(name, *SHORT, f"runner={kind}", "runner.workers=2", "runner.preview_seconds=null")
    assert "sampling that window again" in said
    assert any((bench.store(name) / "damaged").iterdir())
    assert bench.windows(name) == short


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_killed_workers_cost_nothing_but_time(bench: Bench, long: dict[str, bytes], kind: str) -> None:
    name, killed = f"killed-{kind}", 0
    with bench.start(name, *LONG, f"runner={kind}", "runner.workers=2") as process:
        wait_for(process, bench.store(name), "*.part.safetensors")
        while killed < 2 and process.poll() is None:
            worker = sampling_worker(process, kind)
            if worker is not None:
                worker.kill()
                killed += 1
                time.sleep(2.0)
        said, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, said
    assert killed == 2
    assert bench.windows(name) == long


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_failed_cluster_is_reported_and_the_same_command_continues(
    bench: Bench, long: dict[str, bytes], kind: str
) -> None:
    name, choice = f"lost-{kind}", (*LONG, f"runner={kind}", "runner.workers=2")
    strict = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}  # else it takes four deaths at one window
    with bench.start(name, *choice, **strict) as process:
        wait_for(process, bench.store(name), "*.part.safetensors")
        while process.poll() is None:
            raylets = [each for each in descendants(process) if "/raylet " in command_line(each)]
            for each in [sampling_worker(process, kind)] if kind == "dask" else raylets:
                if each is not None:
                    each.kill()
            time.sleep(0.5)
        said, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, said
    last = said.splitlines()[-1]
    assert "lost its workers or itself" in last
    assert last.endswith("run the same command to continue")
    bench.run(name, *LONG)
    assert bench.windows(name) == long


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_stores_all_tokens_and_leaves_no_process(
    bench: Bench, long: dict[str, bytes], kind: str, record_property: Callable[[str, object], None]
) -> None:
    name, choice = f"stopped-{kind}", (*LONG, f"runner={kind}", "runner.workers=2")
    with bench.start(name, *choice) as process:
        wait_for(process, bench.store(name), "*.part.safetensors")
        others = descendants(process)
        process.send_signal(signal.SIGTERM)
        asked = time.time()
        said, _ = process.communicate(timeout=60)
    ended, stored = time.time(), max(path.stat().st_mtime for path in bench.store(name).rglob("*.safetensors"))
    figures = f"{kind}: SIGTERM, all tokens stored after {stored - asked:.1f} s, ended after {ended - asked:.1f} s"
    record_property("figures", figures)
    assert stored - asked < 5.0  # the grace period of a machine that is reclaimed
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("jukebox: stopped as asked; what was made so far is stored: ")
    _, alive = psutil.wait_procs(others, timeout=30)
    assert not alive, [command_line(each) for each in alive]
    bench.run(name, *LONG)
    assert bench.windows(name) == long


def test_a_wavefront_gives_a_preview_long_before_its_end(bench: Bench, long: dict[str, bytes]) -> None:
    preview = bench.made("heard") / "audio" / "preview"
    with bench.start("heard", *LONG, "runner.schedule=wavefront", "runner.preview_seconds=0.1") as process:
        wait_for(process, preview, "sample_0.wav")
        for _ in range(5):
            assert len(read_audio(preview / "sample_0.wav", rate=44100))
        said, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, said
    assert said.index("first final sound") < said.rindex("level 2  window")
    assert not preview.exists()
    assert bench.windows("heard") == long
    first = json.loads((bench.made("heard") / "manifest.json").read_text())["first_sound_seconds"]
    assert first["2"] < first["1"] < first["0"]
    for level in range(3):
        one, other = (bench.made(name) / f"audio/level_{level}/sample_3.wav" for name in ("long", "heard"))
        assert one.read_bytes() == other.read_bytes()


@contextmanager
def dask_cluster(folder: Path, api: str, environment: dict[str, str]) -> Iterator[str]:
    """A Dask scheduler and two workers, each in a folder and home of its own, as on hosts of their own."""
    folder.mkdir()
    about, processes = folder / "scheduler.json", []
    own = os.environ | environment | {"PREFECT_API_URL": api, "NO_PROXY": "127.0.0.1"}
    try:
        for name in ("scheduler", "worker-a", "worker-b"):
            home = folder / name
            home.mkdir()
            role, *more = name.split("-")
            options = ["--nthreads", "1"] if more else ["--port", "0"]
            command = [BIN / "dask", role, "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", about, *options]
            at_home = {"HOME": str(home), "JUKEBOX_WEIGHTS": str(home / "weights")}
            with (home / "log").open("w") as log:
                processes.append(subprocess.Popen(command, cwd=home, env=own | at_home, stdout=log, stderr=log))
            while not about.exists():
                assert processes[0].poll() is None, (folder / "scheduler" / "log").read_text()
                time.sleep(0.1)
        yield json.loads(about.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(30)


def test_hosts_share_nothing_but_the_store_and_the_server(
    bench: Bench, short: dict[str, bytes], tmp_path: Path
) -> None:
    s3 = S3Server(tmp_path / "s3.log")
    try:
        s3.make_bucket("music")
        shared = ("storage=s3", "storage.tokens=s3://music/tokens")
        with dask_cluster(tmp_path / "cluster", bench.prefect, s3.environment) as address:
            bench.run("here", *SHORT, *shared, "runner=dask", f"runner.address={address}", **s3.environment)
        said = bench.run("there", *SHORT, *shared, "run.name=again", **s3.environment)
        assert "level 0: 16 windows, 16 of them reused" in said
        with pytest.MonkeyPatch.context() as patch:
            for name, value in s3.environment.items():
                patch.setenv(name, value)
            far, near = TokenStore("s3://music/tokens"), TokenStore(bench.store("short"))
            keys = sorted(name.partition(".")[0] for name in short)
            assert far.keys() == near.keys() == keys
            assert [far.read(key).digest for key in keys] == [near.read(key).digest for key in keys]
    finally:
        s3.stop()
