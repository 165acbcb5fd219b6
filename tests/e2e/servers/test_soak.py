"""Many runs on one server, six at a time, some killed: all are finished, none is stuck, the database is bounded."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from pipelines.orchestration import own_server, prefect_home, reconcile
from pipelines.orchestration.database import KEEP_RUNS, prepare_database
from tests.helpers.models.own_model import write_own_model
from tests.helpers.servers.prefect_site import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.endurance, pytest.mark.timeout(7200)]

RUNS = int(os.environ.get("JUKEBOX_SOAK_RUNS", "200"))
AT_A_TIME = 6
KILLED = 5  # each fifth run is killed once
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


def test_many_runs_on_one_server(home: Path, tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    model, env, chance = write_own_model(tmp_path / "model"), environment(tmp_path), random.Random(0)
    moments = [chance.uniform(3, 25) if number % KILLED == 0 else None for number in range(RUNS)]
    failures: list[str] = []

    def make(number: int) -> None:
        command = [
            sys.executable, "-m", "pipelines.cli.main", "generate", f"model={model}", "hardware.threads=1",
            "runner.preview_seconds=null", "seconds=0.2", "output.report=false", f"sampling.seed={number}",
            f"run.name=run-{number}",
        ]  # fmt: skip
        for moment in (moments[number], None):
            with subprocess.Popen(
                command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process:
                kill = threading.Timer(1200 if moment is None else moment, process.send_signal, [signal.SIGKILL])
                kill.start()
                _, errors = process.communicate()
                kill.cancel()
            if process.returncode == 0:
                return
            if moment is None:
                break
        failures.append(f"run {number}: {process.returncode} {errors}")

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(make, range(RUNS)))
    assert failures == []
    assert len([*tmp_path.glob("outputs/run-*/audio/level_0/sample_0.wav")]) == RUNS

    from prefect.client.orchestration import get_client

    reconcile.reconcile()
    with get_client(sync_client=True) as client:
        states = [run.state_name for run in client.read_flow_runs(limit=200)]
    assert set(states) <= {"Completed", "Crashed", "Failed"}, states
    size = sum(path.stat().st_size for path in home.glob("prefect.db*"))
    record_property("figures", f"{RUNS} runs, {AT_A_TIME} at a time: {len(states)} recorded, {size / 1e6:.1f} MB")
    assert size < BYTES
    assert len(states) <= max(KEEP_RUNS + RUNS // 4, RUNS + RUNS // KILLED + 1)
