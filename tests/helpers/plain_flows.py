"""The stages of a run called as plain functions, without Prefect's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.runs.folder import RunFolder
    from pipelines.settings.generate import Settings


def run_plainly(settings: Settings, *, resume: bool = False) -> Path:
    """Makes a run's songs in this process, as `jukebox generate` or `runs resume`; returns the run's folder."""
    from pipelines.execution import preflight  # takes seconds: only for tests that need it
    from pipelines.flows.generate import generate_songs
    from pipelines.orchestration.stage_calls import PLAIN
    from pipelines.runs.folder import open_run
    from pipelines.settings.compose import dump

    prepared = preflight.check_machine(preflight.prepare(settings, resume=resume))
    run = open_run(prepared.settings, dump(prepared.settings), prepared.contents)
    generate_songs(prepared, run, PLAIN, live=False)
    return run.path


def make_plainly(settings: Settings, *, resume: bool = False) -> RunFolder:
    """Does what `jukebox generate` or `runs resume` does, in this process and without Prefect; returns the run."""
    from pipelines import commands

    return commands.make(settings, how="plain", resume=resume)
