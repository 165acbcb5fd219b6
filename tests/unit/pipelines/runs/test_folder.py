from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base.structuring import to_plain
from jukebox_core.errors import RunError
from jukebox_core.tokens.graph import Track
from pipelines.runs.contents import differences
from pipelines.runs.folder import (
    MANIFEST_SCHEMA,
    RunFolder,
    check_free,
    default_name,
    find_run,
    identity,
    open_run,
    run_path,
    runs_in,
    take_to_json,
)
from pipelines.settings.compose import GENERATE, compose, dump

if TYPE_CHECKING:
    from pipelines.settings.generate import Settings


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@cache  # each takes Hydra a fifth of a second
def settings(*overrides: str) -> Settings:
    return compose(GENERATE, list(overrides))


def opened(*overrides: str) -> RunFolder:
    made = settings(*overrides)
    return open_run(made, dump(made))


@pytest.mark.parametrize(
    "override",
    [
        *("hardware=cpu", "hardware.batch_size=2", "storage.root=elsewhere", "storage.tokens=memory://x"),
        *("output=flac", "output.report=false", "weights.offline=true", "run.wait=true", "runner.workers=2"),
    ],
)
def test_where_how_fast_and_in_which_format_do_not_make_another_run(override: str) -> None:
    assert identity(settings(override)) == identity(settings())
    assert default_name(settings(override)) == default_name(settings())


@pytest.mark.parametrize(
    "override",
    [
        *(
            "seconds=7",
            "sampling.seed=1",
            "song.genre=waltz",
            "song.lyrics=la",
            "prompt=tune",
            "hardware.dtype=float16",
        ),
        *("sampling.level_1.top_k=3", "sampling.n_samples=2", "model.network.priors.level_2.transformer.depth=4"),
    ],
)
def test_settings_that_change_the_music_make_another_run(override: str) -> None:
    assert default_name(settings(override)) != default_name(settings())


def test_a_run_is_named_after_its_model_and_settings_unless_it_has_a_name() -> None:
    assert default_name(settings()).startswith("mini-")
    assert run_path(settings()) == Path("outputs") / default_name(settings())
    assert run_path(settings("run.name=mine", "storage.root=there")) == Path("there/mine")


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["song.total_seconds=60"], "mini-367b9ffb"),
        (["seconds=40"], "mini-3fb9b3f0"),
        (["model.usual_seconds=null"], "mini-4bde66aa"),
    ],
)
def test_runs_of_the_same_music_keep_the_names_from_before_usual_lengths(overrides: list[str], name: str) -> None:
    made = settings(*overrides, *(f"sampling.level_{level}.temperature=0.99" for level in range(3)))
    assert default_name(made) == name
    assert "usual_seconds" not in str(identity(made))


def test_a_usual_length_that_is_used_makes_another_run() -> None:
    assert identity(settings())["usual_seconds"] == 30.0
    assert default_name(settings()) != default_name(settings("model.usual_seconds=null"))
    assert default_name(settings()) != default_name(settings("model.usual_seconds=60"))


def test_a_run_is_opened_with_its_settings_and_again_as_it_is() -> None:
    run = opened("seconds=7")
    assert (run.path / "config.yaml").read_text() == dump(settings("seconds=7"))
    manifest = run.manifest()
    assert manifest["identity"] == identity(settings("seconds=7"))
    assert (manifest["schema"], manifest["run"]) == (MANIFEST_SCHEMA, run.name)
    assert manifest["licence"] == settings().model.files.licence
    assert {"python", "torch", "engine", "prefect"} <= set(manifest["versions"])
    run.update(status="finished")
    again = {"status": "finished", "settings": to_plain(settings("seconds=7", "output=mp3"))}
    assert opened("seconds=7", "output=mp3").manifest() == manifest | again


def test_other_settings_under_the_same_name_are_refused_with_what_differs() -> None:
    run = opened("run.name=mine", "sampling.seed=1")
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    message = (
        r"run mine was made with other settings \(sampling\.seed: 1 -> 2; seconds: 6\.0 -> 7\.0\); nothing is over"
    )
    with pytest.raises(RunError, match=message):
        opened("run.name=mine", "sampling.seed=2", "seconds=7")
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before


def test_a_folder_that_is_not_a_run_is_refused() -> None:
    Path("outputs/notes").mkdir(parents=True)
    assert check_free(settings("run.name=notes")).path == Path("outputs/notes")  # empty: free
    Path("outputs/notes/a.txt").touch()
    Path("outputs/file").touch()
    for name in ("notes", "file"):
        with pytest.raises(RunError, match=f"outputs/{name} exists and is not a run; choose another run.name"):
            opened(f"run.name={name}")


def test_a_folder_that_cannot_be_made_is_reported() -> None:
    Path("taken").touch()
    with pytest.raises(RunError, match=r"cannot make taken/mine \(.*\); choose another storage\.root"):
        opened("storage.root=taken", "run.name=mine")
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a run: it has no manifest.json"),
        ("{", "cannot be read"),
        (json.dumps({"schema": MANIFEST_SCHEMA + 1}), f"has schema {MANIFEST_SCHEMA + 1}, newer than"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_reported(text: str | None, message: str) -> None:
    if text is not None:
        Path("manifest.json").write_text(text)
    with pytest.raises(RunError, match=message):
        RunFolder(Path()).manifest()


def test_takes_come_back_as_they_were() -> None:
    run = opened()
    with pytest.raises(RunError, match="made no tokens yet"):
        run.takes()
    take = (Track().extend("0" * 64, 512).extend("1" * 64, 700), Track().extend("2" * 64, 128), Track())
    run.update(takes=[take_to_json(take)])
    assert run.takes() == [take]


def test_runs_are_found_by_name_and_by_folder() -> None:
    first, second = opened("run.name=first"), opened("run.name=second")
    assert [run.path for run in runs_in("outputs")] == [first.path, second.path]
    assert find_run("first", "outputs").path == find_run("outputs/first", "outputs").path == first.path
    with pytest.raises(RunError, match=r"'frist' is not a run: .*; closest: 'first'"):
        find_run("frist", "outputs")
    with pytest.raises(RunError, match="nowhere holds no runs"):
        find_run("frist", "nowhere")


def test_differences_name_the_dotted_keys() -> None:
    old, new = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "e": None}
    assert differences(old, new) == ["a.c: 2 -> 3", "d: [1] -> None"]
    assert differences(old, old) == []
