"""Starting takes of a run: spans of earlier runs, chosen, cut and spliced; and errors. Nothing is sampled."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from jukebox_core.errors import ConfigError, JukeboxError, RunError
from pipelines.execution.inputs import check_work_left
from pipelines.runs.folder import RunFolder, default_name, run_path
from pipelines.runs.settings_of_run import resume_root, run_root
from pipelines.runs.takes import check_source, check_weights, note_plan, starting_takes
from pipelines.settings.compose import GENERATE, compose
from tests.helpers.fake_runs import fake_run, plan_fake_run, seal

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.tokens.graph import Take
    from pipelines.settings.generate import Settings

MINI = compose(GENERATE, ["model.network.vqvae.sample_rate=44100"]).model.config  # as fake runs have it
HOP = MINI.hops[-1]  # samples of a token of the top level
FACTORS = tuple(HOP // hop for hop in MINI.hops)  # tokens of each level for one of the top level
SECOND = ("seconds=6", "sampling.n_samples=2")


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def continued(run: str, *overrides: str, command: str = "continue") -> Settings:
    return compose(run_root(command, run, overrides), overrides)


def lengths(takes: list[Take]) -> list[list[int]]:
    return [[len(track) for track in take] for take in takes]


def top_tokens(length: float) -> int:
    return int(length * MINI.sample_rate) // HOP


def whole_seconds(length: float) -> float:
    """Returns seconds, cut to tokens of the top level."""
    return top_tokens(length) * HOP / MINI.sample_rate


def seconds(settings: Settings, take: Take) -> list[float]:
    config = settings.model.config
    return [round(config.seconds(level, len(track)), 2) for level, track in enumerate(take)]


def test_each_song_continues_its_own_sample() -> None:
    run = fake_run("first", *SECOND)
    assert starting_takes(continued("first", "seconds=8")) == run.takes()


def test_every_level_is_cut_to_the_same_whole_top_level_tokens() -> None:
    run = fake_run("first", *SECOND)
    settings = continued("first", "source.keep_seconds=2.001")
    takes = starting_takes(settings)
    tokens = top_tokens(2.001)
    assert lengths(takes) == [[tokens * factor for factor in FACTORS]] * 2
    for take, whole in zip(takes, run.takes(), strict=True):
        assert all(track == full.cut(len(track)) for track, full in zip(take, whole, strict=True))


def test_one_sample_is_spread_and_several_are_taken_in_order() -> None:
    first, second = fake_run("first", *SECOND).takes()
    assert starting_takes(continued("first", "seconds=8", "source.samples=[1]", "sampling.n_samples=3")) == [second] * 3
    assert starting_takes(continued("first", "seconds=8", "source.samples=[1,0]")) == [second, first]
    assert starting_takes(continued("first", "source.samples=[1]", "sampling.n_samples=1", command="upsample")) == [
        second
    ]


def test_songs_keep_the_settings_of_the_samples_they_start_from() -> None:
    fake_run("first", *SECOND, "songs=[{genre: folk},{genre: waltz}]")
    spread = continued("first", "seconds=8", "source.samples=[1]", "sampling.n_samples=3")
    assert [spread.song_of(sample).genre for sample in range(3)] == ["waltz"] * 3
    swapped = continued("first", "seconds=8", "source.samples=[1,0]")
    assert [swapped.song_of(sample).genre for sample in range(2)] == ["waltz", "folk"]
    emptied = continued("first", "seconds=8", "source.samples=[1,0]", "songs=[]")
    assert emptied.songs == ()


def test_ranges_are_spliced_after_what_is_kept() -> None:
    mine, others = fake_run("first", *SECOND).takes(), fake_run("other", *SECOND, "sampling.seed=9").takes()
    settings = continued(
        "first",
        "source.keep_seconds=2",
        "source.splice=[{run: other, sample: 1, from_seconds: 1, to_seconds: 3}, {run: first, from_seconds: 5}]",
        "seconds=9",
    )
    kept, start, stop, late = (top_tokens(at) for at in (2, 1, 3, 5))
    for sample, take in enumerate(starting_takes(settings)):
        for level, factor in enumerate(FACTORS):
            whole = (
                mine[sample][level]
                .cut(kept * factor)
                .append(others[1][level].slice(start * factor, stop * factor))
                .append(mine[0][level].slice(late * factor, len(mine[0][level])))
            )
            assert take[level] == whole
    check_source(settings)


def test_a_range_right_after_what_is_kept_is_the_track_itself() -> None:
    run = fake_run("first", "seconds=6")
    settings = continued("first", "source.keep_seconds=2", "source.splice=[{run: first, from_seconds: 2}]", "seconds=8")
    assert starting_takes(settings) == run.takes()


def test_levels_that_a_range_lacks_are_left_to_be_sampled() -> None:
    fake_run("first", "seconds=6")
    fake_run("top", "seconds=6", "sampling.stop_level=2", bottom=2)
    pieces = "source.splice=[{run: top, to_seconds: 1}, {run: first, to_seconds: 1}]"
    settings = continued("first", "source.keep_seconds=2", pieces, "seconds=8")
    assert seconds(settings, starting_takes(settings)[0]) == [round(whole_seconds(2), 2)] * 2 + [
        round(whole_seconds(2) + whole_seconds(1) * 2, 2)
    ]


def test_a_planned_run_needs_its_parent_no_longer() -> None:
    fake_run("first", *SECOND)
    settings = continued("first", "source.keep_seconds=2", "seconds=8")
    start = starting_takes(settings)
    takes = [tuple(track.extend("e" * 64, len(track) + 50) for track in take) for take in start]
    run = plan_fake_run(settings, takes)
    note_plan(settings, run, start, takes)
    assert run.path == run_path(settings)
    shutil.rmtree("outputs/first")
    assert starting_takes(settings) == start
    check_source(settings)
    parent = run.manifest()["parent"]
    assert (parent["run"], parent["samples"], parent["begins_seconds"]) == (
        "first",
        [0, 1],
        [round(whole_seconds(2), 3)] * 2,
    )


def test_a_longer_song_is_completed_again_and_a_run_from_before_usual_lengths_as_it_was() -> None:
    fake_run("first", *SECOND)
    assert [continued("first", f"seconds={n}").song_of(0).total_seconds for n in (8, 29)] == [30.0, 30.0]
    longer = continued("first", "seconds=40")
    assert longer.song_of(0).total_seconds == longer.length / longer.config.sample_rate
    config = RunFolder(run_path(continued("first", "run.name=first"))).path / "config.yaml"
    config.write_text(config.read_text().replace("  usual_seconds: 30.0\n", ""))
    old = continued("first", "seconds=8")
    assert old.song_of(0).total_seconds == old.length / old.config.sample_rate
    resumed = compose(resume_root("first", "outputs", []))
    assert resumed.song_of(0).total_seconds == resumed.length / resumed.config.sample_rate


def test_names_do_not_grow_with_each_generation() -> None:
    fake_run("first", "seconds=6")
    settings = continued("first", "seconds=8")
    child = plan_fake_run(settings, starting_takes(settings))
    grandchild = continued(child.name, "seconds=9")
    assert default_name(settings).startswith("first-continue-")
    assert default_name(grandchild).startswith("first-continue-")
    assert default_name(grandchild) != child.name


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["source.samples=[2]"], "source.samples names 2, but run first has samples 0 to 1"),
        (["source.samples=[0,1,1]"], "source.samples names 3 samples but sampling.n_samples is 2; set sampling.n_sam"),
        (["source.samples=[-1]"], "source.samples is [-1]; samples are counted from 0"),
        (["source.samples=2"], "source.samples names 2, but run first has samples 0 to 1"),
        (["sampling.n_samples=3"], "run first has 2 samples but sampling.n_samples is 3; leave that override out, or"),
        (
            ["source.keep_seconds=7"],
            f"source.keep_seconds is 7, but sample 0 of run first has {whole_seconds(6):.4g} s",
        ),
        (["source.keep_seconds=0"], "source.keep_seconds is 0.0; it must be above 0"),
        (
            ["seconds=5"],
            f"seconds is 5, but the songs begin with {whole_seconds(6):.4g} s of earlier runs; ask for more seconds",
        ),
        (["source.splice=[{run: first}]"], f"seconds is 6, but the songs begin with {2 * whole_seconds(6):.4g} s"),
        (["source.splice=[{run: firrt}]"], "'firrt' is not a run: there is no config.yaml in it; give a run's folder"),
        (["source.splice=[{run: first, sample: 2}]"], "source.splice.0.sample is 2, but run first has samples 0 to 1"),
        (
            ["source.splice=[{run: first, to_seconds: 9}]"],
            "source.splice.0.to_seconds is 9, but sample 0 of run first has",
        ),
        (
            ["source.splice=[{run: first, from_seconds: 2, to_seconds: 1}]"],
            "source.splice.0.to_seconds is 1.0; it must",
        ),
        (["source.splice=[{run: first, from_seconds: 2, to_seconds: 2.0001}]"], "source.splice.0 is 2 s to 2.0001 of"),
        (["source.splice=[{from_seconds: 2}]"], "source.splice.0.run is missing"),
        (["model=5b", "seconds=70"], "run first was made by another model (model.name: 'mini' -> '5b'"),
        ([], "run first has 6 s at every level down to 0 already, so continue has nothing to do; ask for more seconds"),
    ],
)
def test_what_earlier_runs_do_not_have_is_refused(overrides: list[str], message: str) -> None:
    fake_run("first", *SECOND)
    with pytest.raises(JukeboxError) as caught:
        check_all(continued("first", *overrides))
    assert str(caught.value).startswith(message)


def check_all(settings: Settings) -> None:
    check_source(settings)
    check_work_left(settings)


@pytest.mark.parametrize("override", ["source.keep_seconds=2", "source.splice=[{run: first}]"])
def test_upsampling_keeps_the_run_as_it_is(override: str) -> None:
    fake_run("first", "seconds=6")
    with pytest.raises(ConfigError, match=r"but upsample keeps the"):
        continued("first", override, command="upsample")


def test_a_range_may_come_from_another_prior_but_not_from_another_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_run("first", "seconds=6")
    fake_run("other", "seconds=6", "model.network.priors.level_2.transformer.depth=17")
    settings = continued("first", "source.splice=[{run: other, to_seconds: 1}]", "seconds=8")
    check_source(settings)
    fake_run("codec", "seconds=6", "model.network.vqvae.bins=256")
    settings = continued("first", "source.splice=[{run: codec, to_seconds: 1}]", "seconds=8")
    with pytest.raises(RunError, match=r"run codec was made by another model \(model.network.vqvae.bins: 256 -> 512\)"):
        check_source(settings)


def test_other_weights_are_refused() -> None:
    fake_run("first", "seconds=6")
    fake_run("other", "seconds=6", "sampling.seed=3").update(weights={"vqvae": "0" * 64})
    same: dict[str, Any] = {"vqvae": "f" * 64, "level_2": "2" * 64}
    check_weights(continued("first", "seconds=8"), same)
    with pytest.raises(RunError, match=r"run first was made with other weights \(level_2 222222222222, here 333333"):
        check_weights(continued("first", "seconds=8"), same | {"level_2": "3" * 64})
    with pytest.raises(RunError, match=r"run other was made with other weights \(vqvae 000000000000, here ffffff"):
        check_weights(continued("first", "seconds=8", "source.splice=[{run: other, to_seconds: 1}]"), same)


def test_an_unfinished_run_is_continued_only_as_far_as_it_got() -> None:
    run = fake_run("first", "seconds=6", status="stopped")
    [take] = run.takes()
    for level, windows in ((2, 2), (1, 1)):
        seal("outputs/.store", take[level].spans[:windows])
    with pytest.raises(RunError, match=r"run first is not finished: sample 0 has 4 s of 5.999 s; finish"):
        starting_takes(continued("first", "seconds=8"))
    with pytest.raises(ConfigError, match=r"source.keep_seconds is 5, but sample 0 of run first has 4 s of 5.999 s"):
        starting_takes(continued("first", "seconds=8", "source.keep_seconds=5"))
    settings = continued("first", "seconds=8", "source.keep_seconds=3")
    assert seconds(settings, starting_takes(settings)[0]) == [0.0, 2.0, 3.0]


def test_a_run_that_was_never_planned_cannot_be_continued() -> None:
    run = fake_run("first", "seconds=6")
    run.update(takes=None)
    with pytest.raises(RunError, match="run first made no tokens yet"):
        starting_takes(continued("first", "seconds=8"))


def test_a_damaged_manifest_is_reported() -> None:
    run = fake_run("first", "seconds=6")
    run.update(takes=[[["nonsense"], [], []]])
    with pytest.raises(RunError, match="'nonsense' does not name tokens"):
        RunFolder(run.path).takes()
