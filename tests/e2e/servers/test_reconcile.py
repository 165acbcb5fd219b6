"""Cleaning up after killed commands: a run that never ends. The next command does it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers.models.own_model import write_own_model
from tests.helpers.servers.prefect_site import environment, running, server, wait

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.servers.prefect_site import Site

pytestmark = [pytest.mark.slow, pytest.mark.endurance, pytest.mark.timeout(1200)]


def command(model: Path, *more: str) -> list[str]:
    fixed = ["hardware.threads=1", "runner.preview_seconds=null", "storage.flush_tokens=32", "run.name=run"]
    return ["pipelines.cli.main", "generate", f"model={model}", *fixed, *more]


ENDS = ({"COMPLETED"}, {"COMPLETED", "CRASHED"})  # the former if the kill fell between two tasks


def kill_while_sampling(site: Site, folder: Path, arguments: list[str], env: dict[str, str]) -> None:
    """Runs a command until the server shows that it samples, then kills it without its child processes.

    States of tasks are sent in the background: a command that is killed sooner takes them with it.
    """
    log = folder / "outputs" / "run" / "run.log"
    with running(arguments, folder / "command.log", folder, env) as process:

        def samples() -> bool:
            assert process.poll() is None, (folder / "command.log").read_text()
            return (
                log.is_file()
                and "level 1  window" in log.read_text()
                and "RUNNING" in states(site, "task_runs")
                and states(site, "flow_runs") == ["RUNNING"]
            )

        wait("sampling", samples)
        process.kill()
        process.wait(30)


def states(site: Site, kind: str) -> list[str]:
    return [found["state"]["type"] for found in site.ask("POST", f"{kind}/filter", {"sort": "ID_DESC"})[1] or []]


def test_runs_of_killed_commands_are_marked_as_crashed(tmp_path: Path) -> None:
    model = write_own_model(tmp_path / "model")
    with server(tmp_path) as site:
        env = environment(tmp_path, PREFECT_API_URL=site.url)
        kill_while_sampling(site, tmp_path, command(model, "seconds=6"), env)
        again = [sys.executable, "-m", *command(model, "seconds=6")]
        subprocess.run(again, cwd=tmp_path, env=env, check=True, timeout=300, capture_output=True)
        assert sorted(states(site, "flow_runs")) == ["COMPLETED", "CRASHED"]
        wait("the end of all tasks", lambda: set(states(site, "task_runs")) in ENDS, 60)
