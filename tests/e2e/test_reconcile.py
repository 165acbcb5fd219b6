"""Cleaning up after killed commands: a server without an owner, a run that never ends. The next command does it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from jukebox_core.base.processes import is_dead, name_of
from tests.helpers.models.own_model import write_own_model
from tests.helpers.servers.prefect_site import environment, running, server, wait

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.servers.prefect_site import Site

pytestmark = [pytest.mark.slow, pytest.mark.endurance, pytest.mark.timeout(1200)]


def command(model: Path, *more: str) -> list[str]:
    fixed = ["hardware.threads=1", "runner.preview_seconds=null", "storage.flush_tokens=32", "run.name=run"]
    return ["pipelines.cli.main", "generate", f"model={model}", *fixed, *more]


def kill_while_sampling(folder: Path, arguments: list[str], env: dict[str, str]) -> None:
    """Runs a command until it samples, then kills it without its child processes."""
    log = folder / "outputs" / "run" / "run.log"
    with running(arguments, folder / "command.log", folder, env) as process:

        def samples() -> bool:
            assert process.poll() is None, (folder / "command.log").read_text()
            return log.is_file() and "level 1  window" in log.read_text()

        wait("sampling", samples)
        process.kill()
        process.wait(30)


def states(site: Site, kind: str) -> list[str]:
    return [found["state"]["type"] for found in site.ask("POST", f"{kind}/filter", {"sort": "ID_DESC"})[1]]


def test_runs_of_killed_commands_are_marked_as_crashed(tmp_path: Path) -> None:
    model = write_own_model(tmp_path / "model")
    with server(tmp_path) as site:
        env = environment(tmp_path, PREFECT_API_URL=site.url)
        kill_while_sampling(tmp_path, command(model, "seconds=0.6"), env)
        assert states(site, "flow_runs") == ["RUNNING"]
        wait("the task's state", lambda: "RUNNING" in states(site, "task_runs"), 60)
        again = [sys.executable, "-m", *command(model, "seconds=0.6")]
        subprocess.run(again, cwd=tmp_path, env=env, check=True, timeout=300, capture_output=True)
        assert sorted(states(site, "flow_runs")) == ["COMPLETED", "CRASHED"]
        wait("the end of all tasks", lambda: set(states(site, "task_runs")) == {"COMPLETED", "CRASHED"}, 60)


def test_a_server_that_a_killed_command_left_is_stopped_by_the_next(tmp_path: Path) -> None:
    model, env = write_own_model(tmp_path / "model"), environment(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    kill_while_sampling(tmp_path, command(model, "seconds=0.6"), env)
    [leaked] = servers(tmp_path)
    name = name_of(leaked)
    try:
        elsewhere = [sys.executable, "-m", *command(model, "seconds=0.05", "sampling.stop_level=2")]
        subprocess.run(elsewhere, cwd=other, env=env, check=True, timeout=300, capture_output=True)
        assert not is_dead(name), "a command stops only servers of its own folder"
        again = [sys.executable, "-m", *command(model, "seconds=0.6")]
        subprocess.run(again, cwd=tmp_path, env=env, check=True, timeout=300, capture_output=True)
        wait("the end of the server", lambda: is_dead(name), 30)
        assert servers(tmp_path) == servers(other) == []
    finally:
        if not is_dead(name):
            os.kill(leaked, signal.SIGKILL)


def servers(folder: Path) -> list[int]:
    """The process IDs of the ephemeral servers that Prefect started for the runs of a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            command, variables = process.cmdline(), process.environ()
        except (psutil.Error, OSError):
            continue
        ours = variables.get("PREFECT_HOME") == str(folder / "outputs" / ".prefect")
        if ours and any("create_app" in argument for argument in command):
            found.append(process.pid)
    return found
