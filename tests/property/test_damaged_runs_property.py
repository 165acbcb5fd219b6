"""Any one file of a run or of its store damaged in any way: every command that reads runs says so in one line."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jukebox_core.base.structuring import build
from jukebox_core.store.pins import Pin
from jukebox_core.store.store import TokenStore
from pipelines import exit_status
from pipelines.cli import main as cli
from pipelines.runs.folder import RunFolder, open_run
from pipelines.runs.settings_of_run import stored_settings
from pipelines.settings.compose import dump
from pipelines.settings.generate import Settings
from tests.helpers.damage import KINDS, content, damage, restore
from tests.helpers.fake_runs import fake_run, seal

pytestmark = pytest.mark.slow

STORE = "outputs/.store"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs with their tokens, and a window that no run names; there is a copy of it beside it."""
    folder = tmp_path_factory.mktemp("runs") / "work"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, seed in (("run", 1), ("other", 2)):
            run = fake_run(name, f"sampling.seed={seed}", "seconds=1")
            seal(STORE, [span for take in run.takes() for track in take for span in track])
        TokenStore(STORE).seal("9" * 64, [1, 2], first=0, causes={})
    shutil.copytree(folder, folder.with_name("copy"))
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "config.yaml", "pin"])
@pytest.mark.parametrize("at", [0, 777])
def test_commands_on_damaged_runs(work: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, at: int) -> None:
    monkeypatch.chdir(work.parent)
    restore(work, work.with_name("copy"))
    monkeypatch.chdir(work)
    run, other = RunFolder(Path("outputs/run")), RunFolder(Path("outputs/other"))
    pin = Path(STORE, Pin("run", run.place, frozenset()).name)
    stray, theirs = "9" * 64, keys(other)
    mine = keys(run)
    damage(pin if name == "pin" else run.path / name, kind, at)
    before = content(other.path)

    for command in (["list"], ["tree"], ["show", "other"], ["gc", "--yes", "--older-than", "0"]):
        assert cli.main(["runs", *command]) == 0
    assert cli.main(["runs", "show", "run"]) in (0, exit_status.REFUSED)
    stored = set(TokenStore(STORE).keys())
    assert theirs <= stored
    assert mine <= stored, "a damaged run may need them"
    assert stray not in stored, "either of manifest and pin says what the run needs"

    found = build(Settings, stored_settings(run))
    found = replace(found, run=replace(found.run, name="run"))
    mended = open_run(found, dump(found))
    assert mended.manifest()["identity"]["seconds"] == 1.0
    assert (run.path / "config.yaml").read_text() == dump(found)
    assert cli.main(["runs", "rm", "run", "--yes"]) == 0
    left = [path for path in run.path.rglob("*") if path.name == "other"]
    assert run.path.exists() == bool(left) == (kind == "full folder" and name != "pin")
    assert content(other.path) == before


def keys(run: RunFolder) -> set[str]:
    return {span.key for take in run.takes() for track in take for span in track}
