"""The plan of a run: only the sampled levels decide its keys, and only their weights are fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipelines.execution.planning import plan_run
from pipelines.settings.compose import GENERATE, compose
from stages.fetch import fetch_vocabularies

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.execution.planning import RunPlan
    from pipelines.settings.generate import Settings

TOP = ("seconds=6", "sampling.n_samples=2", "sampling=top_only")


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUKEBOX_WEIGHTS", str(tmp_path / "weights"))


def plan(settings: Settings, changed: str = "") -> RunPlan:
    """The plan with made-up weights for the roles that the run needs; those of one role may be others."""
    weights = {role: f"{role} {role == changed}" for role in settings.roles}
    vocabularies = fetch_vocabularies(settings.model, settings.weights)
    paths = {role: handle.read() for role, handle in vocabularies.items()}
    return plan_run(settings, {}, settings.family.condition(settings, paths), weights)


def test_a_run_needs_the_weights_of_the_levels_that_it_samples() -> None:
    assert compose(GENERATE, [*TOP]).roles == ("vqvae", "level_2")
    assert compose(GENERATE, ["sampling.stop_level=1"]).roles == ("vqvae", "level_1", "level_2")
    assert compose(GENERATE, []).roles == ("vqvae", "level_0", "level_1", "level_2")


def test_weights_of_a_level_change_its_keys_and_those_below() -> None:
    whole = compose(GENERATE, ["seconds=6"])
    keys = {node.key: node.level for node in plan(whole).nodes}
    for changed in range(3):
        others = {node.key: node.level for node in plan(whole, f"level_{changed}").nodes}
        same = {level for key, level in others.items() if key in keys}
        assert same == {level for level in range(3) if level > changed}
    top = {node.key for node in plan(compose(GENERATE, ["seconds=6", "sampling=top_only"])).nodes}
    assert top == {key for key, level in keys.items() if level == 2}


def test_the_same_song_is_planned_once() -> None:
    one, other = plan(compose(GENERATE, [*TOP])), plan(compose(GENERATE, [*TOP]))
    assert all(a is b for a, b in zip(one.songs, other.songs, strict=True))
    assert plan(compose(GENERATE, [*TOP, "sampling.seed=7"])).songs[0] is not one.songs[0]
