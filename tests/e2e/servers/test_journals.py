"""A command where no server runs: it waits for none, and is recorded completely, with its own times, after its end."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base.processes import is_dead
from tests.helpers.models.own_model import write_own_model
from tests.helpers.servers.prefect_site import environment, wait

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TASKS = ["decode track", "draw", "fetch weights", "report", "sample window", "write codes"]
SHOWN = ["progress", "report", "songs", "windows"]


def test_a_command_without_a_server_is_recorded_after_its_end(tmp_path: Path) -> None:
    model = write_own_model(tmp_path / "model")
    overrides = (f"model={model}", "seconds=0.5", "sampling=top_only", "hardware.threads=1", "run.name=run")
    command = [sys.executable, "-X", "importtime", "-m", "pipelines.cli.main", "generate", *overrides]
    began = datetime.now(UTC)
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=300
    )
    ended = datetime.now(UTC)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| prefect" not in " ".join(done.stderr.split())  # its import takes seconds

    home = tmp_path / "outputs" / ".prefect"
    # The server that records it has a low priority, and seconds of work to start: long, beside busy programs.
    wait("the record", lambda: not [*(home / "records").iterdir()], 500)
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        [(name, state, start, end, tags)] = database.execute(
            "SELECT flow.name, state_type, start_time, end_time, flow_run.tags "
            "FROM flow_run JOIN flow ON flow.id = flow_id"
        ).fetchall()
        tasks = database.execute("SELECT name, state_type, start_time, end_time FROM task_run").fetchall()
        shown = database.execute("SELECT key FROM artifact ORDER BY key").fetchall()
    assert (name, state) == ("generate", "COMPLETED")
    times = [datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (start, end)]
    assert began < times[0] < times[1] < ended, "as it happened, not as it was recorded"
    assert sorted({task.rpartition("-")[0] for task, *_ in tasks}) == TASKS
    assert {state for _, state, *_ in tasks} == {"COMPLETED"}
    assert all(start <= at <= until <= end for _, _, at, until in tasks)
    assert [key for (key,) in shown] == SHOWN
    [process] = [tag.removeprefix("process:") for tag in json.loads(tags) if tag.startswith("process:")]
    assert is_dead(process)
    wait("the end of its server", lambda: not servers_of(home), 60)


def servers_of(home: Path) -> list[str]:
    """The command lines of servers that use a folder."""
    shown = subprocess.run(
        ["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    return [line for line in shown.stdout.splitlines() if str(home) in line and "server_process" in line]
