"""``jukebox runs list`` and ``rename``: where sound is, and another name."""

from __future__ import annotations

from pathlib import Path

import pytest

from jukebox_core.store.pins import Pins
from pipelines.runs.folder import find_run
from tests.helpers.fake_runs import fake_run
from tests.helpers.run_commands import SHORT, STORE, branch, keys, refused, shown


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_list_says_where_finished_sound_is(capsys: pytest.CaptureFixture[str]) -> None:
    audio = [{"path": f"audio/level_{level}/sample_0.wav", "level": level, "sample": 0} for level in (2, 0, 1)]
    fake_run("first").update(audio=audio)
    fake_run("second", "seconds=8", status="running").update(audio=audio)
    rows = [line.split() for line in shown(capsys, "list").splitlines()[1:]]
    assert {row[0]: row[-1] for row in rows}["first"] == "outputs/first/audio/level_0"
    assert sum("audio" in row[-1] for row in rows) == 1


def test_a_run_gets_another_name(capsys: pytest.CaptureFixture[str]) -> None:
    fake_run("first", *SHORT, "sampling.stop_level=2")
    branch("first", "second", "seconds=8")
    before = find_run("first", "outputs")
    kept = Pins(STORE).of("first", before.place)
    assert shown(capsys, "rename", "first", "lullaby") == "run first is now lullaby, in outputs/lullaby\n"
    run = find_run("lullaby", "outputs")
    assert not before.path.exists()
    assert keys(run)
    assert (run.manifest()["run"], run.manifest()["settings"]["run"]["name"]) == ("lullaby", "lullaby")
    renamed = Pins(STORE).of("lullaby", run.place)
    assert (kept and kept.keys) == (renamed and renamed.keys)
    assert Pins(STORE).of("first", before.place) is None
    assert find_run("second", "outputs").manifest()["parent"]["run"] == "lullaby"
    assert shown(capsys, "tree").splitlines()[0].startswith("lullaby")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["first", "second"], "jukebox: outputs/second exists already; choose another name\n"),
        (["frist", "third"], "jukebox: 'frist' is not a run"),
        (["first", "a/b"], "jukebox: NAME is 'a/b'"),
        (["first"], "jukebox: runs rename needs NAME; write: jukebox runs rename"),
    ],
)
def test_a_name_that_cannot_be_given_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_run("first")
    fake_run("second", "seconds=8")
    assert refused(capsys, "rename", *arguments).startswith(message)
    assert len(list(Path("outputs").glob("[a-z]*"))) == 2
