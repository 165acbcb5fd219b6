"""Many runs on one server, six at a time, some killed: all are finished, none is stuck, the database is bounded.

A run is a process of its own. Every fourth one is the command as users start it, which imports torch for most of its
time; the others are forked from a process that has imported everything, so that the server meets more of them at once.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from subprocess import DEVNULL, PIPE, Popen
from typing import TYPE_CHECKING

import pytest

from pipelines.orchestration import own_server, prefect_home, reconcile
from pipelines.orchestration.database import KEEP_RUNS, prepare_database
from pipelines.orchestration.journal import ENDING, FOLDER
from tests.helpers.fault_songs import ForkServer, fork_server
from tests.helpers.models.own_model import write_own_model
from tests.helpers.servers.prefect_site import environment, wait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = [pytest.mark.slow, pytest.mark.endurance, pytest.mark.timeout(7200)]

RUNS = int(os.environ.get("JUKEBOX_SOAK_RUNS", "200"))
AT_A_TIME = 6
KILLED = 5  # each fifth run is killed once
COMMANDS = 4  # each fourth run is a command, the others are forked
KILL_SECONDS = {"command": (3, 25), "forked": (0.5, 12)}  # after the start
END_SECONDS = 1200  # in which a run ends
BYTES = 90_000_000  # of the database and its log of changes


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The folder of a running server, whose client this process is."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        before = dict(os.environ)
        home = prefect_home.set_environment(str(tmp_path / "outputs"))
        prepare_database(home)
        with own_server.running(home, "127.0.0.1", 0, prefect_home.answers) as (url, _):
            prefect_home.record_server(home, url)
            prefect_home.trust(home, url)
            yield home
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


class Runs:
    """Starts runs, by commands or by forking, and kills some."""

    def __init__(self, folder: Path, forks: list[ForkServer]) -> None:
        self._folder, self._env = folder, environment(folder)
        self._model = write_own_model(folder / "model")
        self._free = queue.SimpleQueue[ForkServer]()
        for fork in forks:
            self._free.put(fork)

    def _overrides(self, number: int) -> list[str]:
        return [
            f"model={self._model}", "hardware.threads=1", "runner.preview_seconds=null", "seconds=0.2",
            "output.report=false", f"sampling.seed={number}", f"run.name=run-{number}",
            f"storage.root={self._folder / 'outputs'}",
        ]  # fmt: skip

    def command(self, number: int, kill: float | None) -> tuple[int, str]:
        """Exit status and messages of a command, which is killed after some seconds."""
        command = [sys.executable, "-m", "pipelines.cli.main", "generate", *self._overrides(number)]
        with Popen(command, cwd=self._folder, env=self._env, stdout=DEVNULL, stderr=PIPE, text=True) as process:
            timer = threading.Timer(kill or END_SECONDS, process.send_signal, [signal.SIGKILL])
            timer.start()
            _, errors = process.communicate()
            timer.cancel()
        return process.returncode, errors

    def forked(self, number: int, kill: float | None) -> tuple[int, str]:
        """The same of a forked process."""
        fork, log = self._free.get(), self._folder / f"run-{number}.log"
        order = {"overrides": self._overrides(number), "how": None, "drawn": None, "log": str(log), "full": None}
        process = fork.start(order | {"environment": {}})
        status = fork.wait(kill or END_SECONDS)
        if status is None:
            with suppress(ProcessLookupError):  # it has ended since
                os.kill(process, signal.SIGKILL)
            status = fork.wait(END_SECONDS)
        self._free.put(fork)
        assert status is not None
        return status, log.read_text()


def test_many_runs_on_one_server(home: Path, tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    chance, failures, began = random.Random(0), [], time.monotonic()
    kinds = ["command" if number % COMMANDS == 0 else "forked" for number in range(RUNS)]
    kills = [chance.uniform(*KILL_SECONDS[kind]) if number % KILLED == 0 else None for number, kind in enumerate(kinds)]
    killed = []

    def make(number: int) -> None:
        start = getattr(runs, kinds[number])
        if kills[number] is not None:
            status, errors = start(number, kills[number])
            if status == -signal.SIGKILL:
                killed.append(number)
            elif status:
                failures.append(f"run {number}: {status} {errors}")
        status, errors = start(number, None)
        if status:
            failures.append(f"run {number}: {status} {errors}")

    with ExitStack() as stack:
        forks = [stack.enter_context(fork_server(tmp_path, environment(tmp_path))) for _ in range(min(AT_A_TIME, RUNS))]
        runs = Runs(tmp_path, forks)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(make, range(RUNS)))
    assert failures == []
    assert len([*tmp_path.glob("outputs/run-*/audio/level_0/sample_0.wav")]) == RUNS

    wait("the record of every run", lambda: not [*(home / FOLDER).glob(f"*{ENDING}")], END_SECONDS)
    assert not [*(home / FOLDER).glob("*.refused")]

    from prefect.client.orchestration import get_client

    reconcile.reconcile()
    with get_client(sync_client=True) as client:
        states = [run.state_name for run in client.read_flow_runs(limit=200)]
    assert set(states) <= {"Completed", "Crashed", "Failed"}, states
    size = sum(path.stat().st_size for path in home.glob("prefect.db*"))
    record_property(
        "figures",
        f"{RUNS} runs, {AT_A_TIME} at a time, {len(killed)} killed, in {(time.monotonic() - began) / 60:.0f} minutes: "
        f"{len(states)} recorded, {size / 1e6:.1f} MB",
    )
    assert size < BYTES
    assert len(states) <= max(KEEP_RUNS + RUNS // 4, RUNS + RUNS // KILLED + 1)
