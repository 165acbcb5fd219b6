"""Fake runs with stored windows and branches, and what ``jukebox runs`` says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jukebox_core.store.store import TokenStore
from pipelines import exit_status as status
from pipelines.cli import main as cli
from pipelines.runs.settings_of_run import run_root
from pipelines.runs.takes import note_plan, starting_takes
from pipelines.settings.compose import compose
from tests.helpers.fake_runs import fake_run, made_up_take, plan_fake_run, seal

if TYPE_CHECKING:
    import pytest

    from pipelines.runs.folder import RunFolder

STORE = "outputs/.store"
SHORT = ("seconds=6", "sampling.n_samples=2")


def branch(run: str, name: str, *overrides: str) -> RunFolder:
    """A run that continues another one, and adds a window to each track."""
    settings = compose(run_root("continue", run, overrides), overrides)
    settings = replace(settings, run=replace(settings.run, name=name))
    start = starting_takes(settings)
    added = made_up_take(settings, name, windows=1)
    takes = [
        tuple(track.extend(new.spans[0].key, len(new)) for track, new in zip(take, added, strict=True))
        for take in start
    ]
    made = plan_fake_run(settings, takes)
    note_plan(settings, made, start, takes)
    return made


def sealed_run(name: str, *overrides: str) -> RunFolder:
    """A run all of whose windows are stored."""
    run = fake_run(name, *overrides)
    seal_all(run)
    return run


def seal_all(run: RunFolder) -> None:
    """Stores the windows of a run that are not stored."""
    for take in run.takes():
        for track in take:
            seal(STORE, [span for span in track if not TokenStore(STORE).sealed(span.key)])


def keys(run: RunFolder) -> set[str]:
    """The keys of all windows of a run."""
    return {span.key for take in run.takes() for track in take for span in track}


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What ``jukebox runs`` with `arguments` prints; it succeeds."""
    capsys.readouterr()
    ended = cli.main(["runs", *arguments])
    printed = capsys.readouterr()
    assert ended == 0, printed.err
    return printed.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message with which ``jukebox runs`` with `arguments` is refused."""
    assert cli.main(["runs", *arguments]) == status.REFUSED
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err
