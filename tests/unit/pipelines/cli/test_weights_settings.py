"""The settings of `jukebox models`, read without Hydra: the same as Hydra makes, or left to Hydra."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jukebox_core.errors import ConfigError
from pipelines.cli import weights_settings as module
from pipelines.cli.weights_settings import ModelsSettings, weights_settings
from pipelines.settings.compose import Root, compose, override_value

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.models.config import WeightsConfig


def by_hydra(overrides: list[str]) -> WeightsConfig:
    return compose(Root("models", ModelsSettings), overrides).weights


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["weights.folder=/data/models", "weights.offline=true", "weights.connections=16"],
        ["weights.mirrors=[https://one.example/x, s3://bucket/y]", "weights.elsewhere=[]"],
        ["weights.mirrors=s3://bucket/y"],
        ["weights.substitute=NULL", "weights.prepared=False", "weights.pickles=keep"],
        ["weights.folder=/first", "weights.folder=/second"],
        ["+weights.paths={level_2:/data/prior.pth.tar}"],
        ["weights.folder='/with space'", "weights.mirrors=['a,b']"],
        ["weights.folder=/${weights.pickles}/models"],
        ["weights=default"],
    ],
)
@pytest.mark.parametrize("variables", [{}, {"JUKEBOX_WEIGHTS": "/elsewhere"}, {"HOME": "/a${b}"}])
def test_hydra_makes_the_same(monkeypatch: pytest.MonkeyPatch, overrides: list[str], variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert weights_settings(overrides) == by_hydra(overrides)


@pytest.mark.parametrize(
    "override",
    [
        "weights.ofline=true",
        "wieghts.offline=true",
        "weights.connections=99",
        "weights.connections=[",
        "weights.mirrors={a: b}",
        "weights.folder=${oc.env:HOME}/models",
        "weights.folder=\udce9",
    ],
)
def test_hydra_refuses_the_same(override: str) -> None:
    with pytest.raises(ConfigError) as expected:
        by_hydra([override])
    with pytest.raises(ConfigError) as caught:
        weights_settings([override])
    assert str(caught.value) == str(expected.value)


PIECES = ["true", "False", "null", "nan", "inf", "0", "12", "007", "/data", "~/x", "a.b", "s3://b/x", "%d", "a:b"]
PIECES += ["1e5", "x@y", "./a", "-1", ".5", " ", ",", "[", "]", "_", "a-b", "..", "$", "\u00e9", "(", "'", "=", "*"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join))
@example("1_000")
@example("True")
def test_a_value_that_is_read_without_hydra_is_hydras(text: str) -> None:
    try:
        value = module._value(text)
    except module._NotPlainError:
        return
    expected = override_value([f"weights.folder={text}"], "weights.folder")
    assert (type(value), value) == (type(expected), expected)


def test_plain_values_do_not_need_hydra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pipelines.settings.compose", None)
    assert weights_settings([f"weights.folder={tmp_path}", "weights.elsewhere=[]"]).folder == str(tmp_path)
