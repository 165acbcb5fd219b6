"""Prefect's server goes away, falls silent or is busy in the middle of a run: the run goes on, with one warning."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, get_args

import pytest

from pipelines.orchestration import prefect_home
from tests.helpers.patience import patience
from tests.helpers.servers.prefect_site import environment, wait
from tests.helpers.servers.tcp_gate import Mode, tcp_gate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WINDOWS = 30
DELAY = 5.0  # seconds, in all
PROGRAM = """
import json, logging, sys, time

logging.getLogger("jukebox").addHandler(logging.StreamHandler())  # as the commands do
logging.getLogger("jukebox").propagate = False
from jukebox_core.tokens.graph import Node
from jukebox_core.tokens.plan import Window
from pipelines.orchestration import artifacts, recorder
from pipelines.orchestration.flow_runs import run_flow
from pipelines.orchestration.stage_calls import Stages

nodes = [Node(2, 0, Window(8 * n, 8 * n, 8 * n + 8), {}, {}, str(n)) for n in range(int(sys.argv[1]))]

class Windows(Stages):
    sample_unit = staticmethod(lambda: None)

def work(stages):
    board = artifacts.Board(nodes, {node.key for node in nodes})
    for node in nodes:
        if node is nodes[len(nodes) // 2]:
            print("middle", flush=True)
            sys.stdin.readline()
            began.append(time.monotonic())
        stages.sample_unit()
        board._shown = 0
        board.window_done([node])
    began.append(time.monotonic())
    return board.percent()

began = []
percent = run_flow("generate", {"settings": 1}, Windows(), work, sys.argv[2], sys.argv[3])
ended = time.monotonic()
print(json.dumps({"percent": percent, "windows": began[1] - began[0], "end": ended - began[1]}), flush=True)
recorder.leave(0)
"""
WORKER = """
import sys
from prefect.events import emit_event
from pipelines.orchestration import recorder

emit_event("task.ended", resource={"prefect.resource.id": "a.1"})
recorder.leave_soon()
print("done", flush=True)
"""


def run(url: str, folder: Path, how: str, change: Callable[[], None]) -> tuple[dict[str, float], str, float]:
    """Figures, stderr and the seconds until the process has ended, of a run in whose middle `change` is called."""
    env = environment(folder, PREFECT_API_URL=url, PREFECT_HOME=str(folder / "home"), PREFECT_LOGGING_LEVEL="WARNING")
    env["PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED"] = "false"
    wait("the server", lambda: prefect_home.answers(url, 30), 120)  # which has just been started
    command = [sys.executable, "-c", PROGRAM, str(WINDOWS), how, str(folder)]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "middle\n", process.stderr.read() if process.stderr else ""
            change()
            process.stdin.write("\n")
            process.stdin.flush()
            figures = json.loads(process.stdout.readline())
            ended = time.monotonic()
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    return figures, errors, time.monotonic() - ended


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])


@pytest.mark.parametrize("how", ["recorded", "tasks"])
@pytest.mark.parametrize("mode", [mode for mode in get_args(Mode) if mode != "pass"])
def test_a_server_that_is_away_in_the_middle_delays_a_run_by_seconds_and_is_one_warning(
    prefect_api: str, tmp_path: Path, mode: Mode, how: str, record_property: pytest.RecordProperty
) -> None:
    with tcp_gate(port_of(prefect_api)) as gate:
        figures, errors, exit_seconds = run(
            f"http://127.0.0.1:{gate.port}/api", tmp_path, how, lambda: gate.change(mode)
        )
    assert figures["percent"] == 100
    delay = figures["windows"] + figures["end"] + exit_seconds
    record_property(
        "figures", f"Prefect's server {mode}: {WINDOWS // 2} windows {figures['windows']:.2f} s, end {delay:.1f} s"
    )
    assert delay < patience(2 * DELAY)  # the windows themselves take time
    lines = errors.strip().splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("Prefect's server does not answer (")
    if how == "tasks":
        [note] = (tmp_path / "home" / "ended").iterdir()
        assert note.read_text() == "COMPLETED"
    else:  # another command reports to the server the rest
        [journal] = (tmp_path / "home" / "records").glob("*.jsonl")
        assert json.loads(journal.read_text().splitlines()[-1])["state"] == "COMPLETED"


@pytest.mark.parametrize("how", ["recorded", "tasks"])
def test_no_request_is_made_between_two_windows(prefect_api: str, tmp_path: Path, how: str) -> None:
    with tcp_gate(port_of(prefect_api)) as gate:
        figures, _, _ = run(f"http://127.0.0.1:{gate.port}/api", tmp_path, how, lambda: None)
        asked = [line.split("?")[0] for line in gate.requests]
    assert figures["percent"] == 100
    assert [line for line in asked if "concurrency" in line] == []
    assert len([line for line in asked if "artifacts" not in line]) < WINDOWS


def test_a_worker_of_a_cluster_does_not_wait_for_a_server_that_is_gone(tmp_path: Path) -> None:
    """Prefect would wait for minutes when its process ends, and a Dask cluster for its workers."""
    env = environment(tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api", PREFECT_HOME=str(tmp_path / "home"))
    with subprocess.Popen([sys.executable, "-c", WORKER], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        began = time.monotonic()
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert time.monotonic() - began < patience(DELAY)
