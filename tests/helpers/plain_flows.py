"""Flows run as the plain functions they are made of, without Prefect's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pipelines.settings.generate import Settings


def run_plainly(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs the generate flow in this process; returns the run's folder."""
    from prefect import Task  # takes seconds: only for tests that need it

    from jukebox_core.base.structuring import to_plain
    from pipelines.flows.generate import generate_flow
    from pipelines.orchestration import tasks
    from pipelines.runs.folder import open_run
    from pipelines.settings.compose import dump

    for name, value in list(vars(tasks).items()):
        if isinstance(value, Task):
            monkeypatch.setattr(tasks, name, value.fn)
    run = open_run(settings, dump(settings))
    generate_flow.fn(to_plain(settings), str(run.path))
    return run.path
