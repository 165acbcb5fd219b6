"""A config.yaml of a run that was edited by hand: every command that reads it says in one line what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines import exit_status
from pipelines.cli import main as cli
from tests.helpers.fake_runs import fake_run

pytestmark = pytest.mark.slow

OTHERS = (5, "text")


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_any_part_of_another_type_is_one_error(
    other: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(fake_run("mine", "seconds=1").path)
    path, manifest = folder / "config.yaml", folder / "manifest.json"
    whole, kept = yaml.safe_load(path.read_text("utf-8")), manifest.read_bytes()
    for name in ("run", "song", "songs", "model", "sampling", "storage"):
        path.write_text(yaml.safe_dump(whole | {name: other}), "utf-8")
        command = ["continue", "mine", "seconds=2", "--cfg", "job"]
        assert cli.main(command) == 0, "the manifest has the settings too"
        manifest.unlink()
        assert cli.main(["runs", "list"]) == 0
        capsys.readouterr()
        assert cli.main(command) == exit_status.REFUSED
        [line] = capsys.readouterr().err.splitlines()
        assert f"config.yaml does not hold the settings of a run: {name} is " in line
        manifest.write_bytes(kept)
