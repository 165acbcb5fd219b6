"""Runs that continue earlier runs: the windows they share, the tokens they keep, and the removal of a parent."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.base.hashing import digest
from jukebox_core.errors import RunError
from jukebox_core.store.spans import read_spans
from jukebox_core.store.store import TokenStore
from jukebox_core.tokens.codes import read_codes
from pipelines.cli import main as cli
from pipelines.runs.folder import RunFolder
from pipelines.runs.settings_of_run import resume_root, run_root
from pipelines.settings.compose import GENERATE, compose
from stages import resident
from tests.helpers.models.own_model import write_own_model
from tests.helpers.plain_flows import run_plainly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pipelines.settings.generate import Settings

pytestmark = pytest.mark.slow

SECONDS, RATE, TOP_HOP = 0.2, 44100, 128
FACTORS = (16, 4, 1)  # tokens of each level for one of the top level
QUIET = ("output.report=false", "hardware.device=cpu", "hardware.threads=1")
STORE = "outputs/.store"
Codes = dict[int, "NDArray[np.int32]"]


class Workspace:
    """A folder with a model, in which runs are made in this process."""

    def __init__(self, folder: Path) -> None:
        self.model = write_own_model(folder / "model", scale=3.0)

    def generate(self, name: str, *overrides: str) -> RunFolder:
        composed = (f"model={self.model}", *QUIET, f"run.name={name}", *overrides)
        return self.make(compose(GENERATE, composed))

    def continue_run(self, run: str, name: str, *overrides: str, command: str = "continue") -> RunFolder:
        composed = (f"run.name={name}", *overrides)
        return self.make(compose(run_root(command, run, composed), composed))

    def make(self, settings: Settings) -> RunFolder:
        return RunFolder(run_plainly(settings))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The folder, with a finished run `first` of two samples of a song."""
    folder = tmp_path_factory.mktemp("branches")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        workspace = Workspace(folder)
        workspace.generate("first", f"seconds={SECONDS}", "sampling.n_samples=2")
        yield workspace
    resident.release()


def codes(run: RunFolder, sample: int) -> Codes:
    """A song's tokens, as its file of codes has them, which are those that its take names."""
    found = dict(read_codes(run.path / "codes" / f"sample_{sample}.npz").levels)
    take = run.takes()[sample]
    for level, track in enumerate(take):
        assert np.array_equal(read_spans(TokenStore(STORE), tuple(track)), found.get(level, []))
    return found


def part(song: Codes, start: float, stop: float | None = None) -> list[list[int]]:
    """The tokens of a range of seconds, cut at whole top-level tokens, by level."""
    first, last = (None if at is None else int(at * RATE) // TOP_HOP for at in (start, stop))
    assert first is not None
    return [
        song[level][first * factor : None if last is None else last * factor].tolist()
        for level, factor in enumerate(FACTORS)
    ]


def keys(run: RunFolder) -> set[str]:
    return {span.key for take in run.takes() for track in take for span in track}


def test_a_branch_shares_all_earlier_windows(workspace: Workspace) -> None:
    first, before = RunFolder(Path("outputs/first")), set(TokenStore(STORE).keys())
    run = workspace.continue_run("first", "longer", "seconds=0.3", "sampling.seed=9")
    new = set(TokenStore(STORE).keys()) - before
    assert keys(first) <= keys(run)
    assert new == keys(run) - keys(first)
    sampled = sum(timing.get("windows", 0) for timing in run.manifest()["timings"])
    assert len(new) == sampled > 0
    for sample in range(2):
        assert part(codes(run, sample), 0, SECONDS) == part(codes(first, sample), 0)
        assert len(codes(run, sample)[2]) == int(0.3 * RATE) // TOP_HOP


def test_a_run_is_cut_and_resampled_from_the_cut(workspace: Workspace) -> None:
    first = RunFolder(Path("outputs/first"))
    run = workspace.continue_run("first", "resampled", "source.keep_seconds=0.12", "sampling.seed=9")
    for sample in range(2):
        assert part(codes(run, sample), 0, 0.12) == part(codes(first, sample), 0, 0.12)
        for mine, theirs in zip(part(codes(run, sample), 0.12), part(codes(first, sample), 0.12), strict=True):
            assert len(mine) == len(theirs)
            assert mine != theirs


def test_the_same_seed_makes_the_same_music_again(workspace: Workspace) -> None:
    first, run = RunFolder(Path("outputs/first")), workspace.continue_run("first", "again", "source.keep_seconds=0.12")
    assert part(codes(run, 0), 0) == part(codes(first, 0), 0)


def test_a_sample_is_spread_over_new_songs(workspace: Workspace) -> None:
    first = RunFolder(Path("outputs/first"))
    overrides = ("source.samples=[1]", "sampling.n_samples=3", "seconds=0.25", "sampling.seed=4")
    run = workspace.continue_run("first", "spread", *overrides)
    songs = [codes(run, sample) for sample in range(3)]
    assert all(part(song, 0, SECONDS) == part(codes(first, 1), 0) for song in songs)
    ends = [str(part(song, SECONDS)) for song in songs]
    assert len(set(ends)) == 3


def test_ranges_of_several_takes_make_one_song(workspace: Workspace) -> None:
    first = RunFolder(Path("outputs/first"))
    other = workspace.generate("other", f"seconds={SECONDS}", "sampling.seed=6")
    pieces = (
        "source.splice=[{run: other, from_seconds: 0.03, to_seconds: 0.1}, {run: first, sample: 1, to_seconds: 0.05}]"
    )
    overrides = ("source.samples=[0]", "sampling.n_samples=1", "source.keep_seconds=0.1", "seconds=0.3", pieces)
    run = workspace.continue_run("first", "spliced", *overrides)
    song = codes(run, 0)
    wanted = [part(codes(first, 0), 0, 0.1), part(codes(other, 0), 0.03, 0.1), part(codes(first, 1), 0, 0.05)]
    for level, factor in enumerate(FACTORS):
        begins = [token for piece in wanted for token in piece[level]]
        assert song[level][: len(begins)].tolist() == begins
        assert len(song[level]) == int(0.3 * RATE) // TOP_HOP * factor


def test_a_chosen_sample_of_the_top_level_is_finished(workspace: Workspace) -> None:
    top = workspace.generate(
        "top", f"seconds={SECONDS}", "sampling.n_samples=2", "sampling.seed=3", "sampling.stop_level=2"
    )
    run = workspace.continue_run("top", "chosen", "source.samples=[1]", "sampling.n_samples=1", command="upsample")
    assert codes(run, 0)[2].tolist() == codes(top, 1)[2].tolist()
    assert [len(codes(run, 0)[level]) for level in range(2)] == [len(codes(top, 1)[2]) * factor for factor in (16, 4)]
    spliced = workspace.continue_run(
        "first", "lower", "source.keep_seconds=0.1", "source.splice=[{run: top, to_seconds: 0.1}]", "seconds=0.25"
    )
    lengths = [len(track) for track in spliced.takes()[0]]
    assert lengths == [int(0.25 * RATE) // TOP_HOP * factor for factor in FACTORS]
    assert codes(spliced, 0)[2].tolist()[: 2 * (4410 // TOP_HOP)] == [
        *codes(RunFolder(Path("outputs/first")), 0)[2][: 4410 // TOP_HOP],
        *codes(top, 0)[2][: 4410 // TOP_HOP],
    ]


def test_a_branch_outlives_its_parent_and_garbage_is_what_no_run_names(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = workspace.generate("parent", f"seconds={SECONDS}", "sampling.seed=11")
    child = workspace.continue_run("parent", "child", "seconds=0.25", "sampling.seed=12", "source.keep_seconds=0.12")
    store, song = TokenStore(STORE), codes(child, 0)
    capsys.readouterr()
    assert cli.main(["runs", "tree"]) == 0
    printed = capsys.readouterr().out.splitlines()
    [at] = [index for index, line in enumerate(printed) if line.startswith("parent  finished")]
    assert printed[at + 1] == "└─ child  finished  0.25 s  1 samples  keeps 0.12 s"

    assert cli.main(["runs", "rm", "parent", "--yes"]) == 0
    assert not parent.path.exists()
    store.seal(digest("stray"), [1, 2], first=0, causes={})
    assert cli.main(["runs", "gc", "--yes", "--older-than", "0"]) == 0
    named = {
        key
        for folder in Path("outputs").iterdir()
        if (folder / "manifest.json").is_file()
        for key in keys(RunFolder(folder))
    }
    assert set(store.keys()) == named
    assert not store.sealed(digest("stray"))

    own = child.takes()[0][2].spans[-1].key
    store.remove(own)  # as if it were damaged: a branch resamples its own windows
    child.update(status="stopped")
    workspace.make(compose(resume_root("child", "outputs", [])))
    assert {level: tokens.tolist() for level, tokens in codes(child, 0).items()} == {
        level: tokens.tolist() for level, tokens in song.items()
    }
    kept = child.takes()[0][2].spans[0].key
    store.remove(kept)
    with pytest.raises(RunError, match="1 windows that the songs begin with are not in"):
        workspace.make(compose(resume_root("child", "outputs", [])))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert cli.main(["runs", "rm", "child", "--yes"]) == 0


def test_a_run_made_with_other_weights_is_not_continued(workspace: Workspace) -> None:
    RunFolder(Path("outputs/first")).manifest()
    run = workspace.generate("others", f"seconds={SECONDS}", "sampling.seed=21")
    run.update(weights=run.manifest()["weights"] | {"level_2": "0" * 64})
    with pytest.raises(RunError, match=r"run others was made with other weights \(level_2 000000000000, here"):
        workspace.continue_run("others", "never", "seconds=0.3")


def test_the_report_of_a_renamed_run_has_its_new_name(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = workspace.generate("before", f"seconds={SECONDS}", "output.report=true")
    assert "<title>before" in (run.path / "report.html").read_text("utf-8")
    cli.main(["runs", "rename", "before", "after"])
    assert capsys.readouterr().out == "run before is now after, in outputs/after\n"
    after = RunFolder(Path("outputs/after"))
    assert "<title>after" in (after.path / "report.html").read_text("utf-8")
    [sound] = {record["path"] for record in after.manifest()["audio"] if record["level"] == 0}
    (after.path / sound).unlink()
    cli.main(["runs", "rename", "after", "last"])
    assert "run after is now last" in capsys.readouterr().out
    assert "the report still has the former name" in caplog.text
    assert "<title>after" in (Path("outputs/last") / "report.html").read_text("utf-8")
