"""Run folders appear in one step; what a kill has left is completed, and nothing of a stranger is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jukebox_core.base.records import dump_record
from jukebox_core.errors import RunError
from pipelines import exit_status
from pipelines.cli import main as cli
from pipelines.runs import folder as folders
from pipelines.runs.folder import RunFolder, check_free, default_name, open_run, run_path, runs_in
from pipelines.settings.compose import dump
from tests.helpers.damage import content
from tests.helpers.fake_runs import composed, fake_run


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def opened(*overrides: str) -> RunFolder:
    settings = composed(overrides)
    return open_run(settings, dump(settings))


def test_a_kill_while_a_run_is_created_leaves_no_run_and_the_same_command_makes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = 0

    def kill(path: Path, data: bytes) -> None:
        nonlocal at
        at -= 1
        if at == 0:
            os._exit(0)
        write(path, data)

    write = folders._write
    monkeypatch.setattr(folders, "_write", kill)
    for last in (1, 2):
        at = last
        if (child := os.fork()) == 0:
            opened("run.name=mine")
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0, "killed where it should be"
        assert not Path("outputs/mine").exists()
        assert runs_in("outputs") == []
    assert len(list(Path("outputs").glob(".making-*"))) == 2
    at = 0
    assert opened("run.name=mine").manifest()["run"] == "mine"
    for left in Path("outputs").glob(".making-*"):
        os.utime(left, (0, 0))
    (Path("outputs") / ".removed-mine").mkdir()
    assert cli.main(["runs", "gc", "--yes"]) == 0
    assert [path.name for path in Path("outputs").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "files",
    [(), (".config.yaml.0123abcd.tmp",), ("config.yaml",), ("config.yaml", ".manifest.json.0123abcd.tmp")],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_beginning_of_an_earlier_version_is_completed(files: tuple[str, ...], named: bool) -> None:
    settings = composed(("run.name=mine",) if named else ("seconds=7",))
    path = run_path(settings)
    path.mkdir(parents=True)
    for name in files:
        (path / name).write_text(dump(settings) if name == "config.yaml" else "half")
    open_run(settings, dump(settings))
    assert sorted(each.name for each in path.iterdir()) == ["config.yaml", "manifest.json"]


def test_the_beginning_of_another_run_is_not_taken() -> None:
    Path("outputs/mine").mkdir(parents=True)
    Path("outputs/mine/config.yaml").write_text(dump(composed(("sampling.seed=9",))))
    with pytest.raises(RunError, match=r"outputs/mine is a damaged run that may be another; choose another run\.name"):
        opened("run.name=mine")


@pytest.mark.parametrize("text", ["defaults: [a]\n", "run: 5\n", "- a\n", ""])
def test_the_folder_of_another_program_is_not_taken(text: str) -> None:
    Path("outputs/theirs").mkdir(parents=True)
    Path("outputs/theirs/config.yaml").write_text(text)
    before = content(Path("outputs"))
    with pytest.raises(RunError, match=r"outputs/theirs exists and is not a run; choose another run\.name"):
        opened("run.name=theirs")
    assert cli.main(["runs", "rm", "theirs", "--yes"]) == exit_status.REFUSED
    assert content(Path("outputs")) == before


def test_a_damaged_manifest_is_kept_and_made_again() -> None:
    run = opened("run.name=mine")
    for number, damaged in enumerate(("{", "[]", '{"schema": 1, "run": "mine"}')):
        run.manifest_path.write_text(damaged)
        assert opened("run.name=mine").manifest()["identity"]["seconds"] == 6.0
        aside = run.manifest_path.with_name("manifest.json.damaged" + (f"-{number + 1}" if number else ""))
        assert aside.read_text() == damaged
    (run.path / "config.yaml").unlink()
    run.manifest_path.write_text("{")
    with pytest.raises(RunError, match="outputs/mine is a damaged run that may be another"):
        opened("run.name=mine")
    nameless = opened()
    (nameless.path / "config.yaml").unlink()
    nameless.manifest_path.write_text("{")
    assert opened().name == default_name(composed(())), "its name is the hash of its settings"


def test_a_manifest_that_was_edited_shows_by_its_digest() -> None:
    run = opened("run.name=mine")
    run.manifest_path.write_bytes(run.manifest_path.read_bytes().replace(b'"seconds": 6.0', b'"seconds": 7.0'))
    with pytest.raises(RunError, match="was changed since it was written: its digest does not match"):
        run.manifest()
    run.manifest_path.write_bytes(dump_record({"schema": 1}))
    with pytest.raises(RunError, match="identity is missing"):
        run.manifest()


def test_a_folder_that_is_gone_is_not_made_again_by_an_update() -> None:
    run = opened("run.name=mine")
    for path in run.path.iterdir():
        path.unlink()
    run.path.rmdir()
    with pytest.raises(RunError, match="outputs/mine was removed while its run went on; what was sampled is stored"):
        run.update(status="stopped")
    assert not run.path.exists()


# ---- removal


def test_rm_removes_the_run_below_the_root_and_not_a_folder_of_that_name_here() -> None:
    fake_run("first")
    Path("first").mkdir()
    Path("first/config.yaml").write_text("mine: true\n")
    assert cli.main(["runs", "rm", "first", "--yes"]) == 0
    assert not Path("outputs/first").exists()
    assert cli.main(["runs", "rm", "first", "--yes"]) == exit_status.REFUSED
    assert Path("first/config.yaml").exists()


def test_rm_leaves_what_the_run_did_not_make(capsys: pytest.CaptureFixture[str]) -> None:
    run = fake_run("first")
    theirs = [run.path / name for name in ("notes.txt", "audio/remix.wav", "mine/a.txt", "audio/level_2/take.wav")]
    ours = (
        "audio/level_2/sample_0.wav",
        "codes/sample_0.npz",
        "run.log",
        "manifest.json.damaged-2",
        "audio/preview/.sample_0_level_2.pcm",
    )
    for path in (*theirs, *(run.path / name for name in ours)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (run.path / "codes/link").symlink_to("/etc/hostname")
    capsys.readouterr()
    assert cli.main(["runs", "rm", "first", "--yes"]) == 0
    assert "but for 5 files that it did not make" in capsys.readouterr().out
    assert set(content(run.path)) == {path.relative_to(run.path).as_posix() for path in theirs}
    assert Path("/etc/hostname").exists()
    assert runs_in("outputs") == []


@pytest.mark.parametrize("name", ["", ".", "..", "outputs", "outputs/first/..", "link", "outputs/link", "/", "~nobody"])
def test_rm_refuses_what_is_no_run(name: str) -> None:
    fake_run("first")
    Path("outputs/link").symlink_to("first")
    before = content(Path("outputs"))
    assert cli.main(["runs", "rm", name, "--yes"]) == exit_status.REFUSED
    assert content(Path("outputs")) == before


def test_a_run_elsewhere_is_removed_by_its_path() -> None:
    fake_run("first")
    Path("outputs").rename("others")
    assert cli.main(["runs", "rm", "others/first", "--yes"]) == 0
    assert not Path("others/first").exists()


def test_a_name_is_free_where_nothing_is(tmp_path: Path) -> None:
    assert check_free(composed(("run.name=mine",))).is_vacant()
    assert not Path("outputs").exists()
