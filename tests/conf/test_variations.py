"""Settings of `vamp` and `inpaint`: defaults, fine-tunes by name, and what does not fit."""

from __future__ import annotations

import pytest

from jukebox_core.errors import ConfigError
from jukebox_core.families.vampnet.masks.config import MaskConfig
from jukebox_core.families.vampnet.sampling.config import VampSampling
from jukebox_core.models.presets import load_preset
from pipelines.settings.compose import GENERATE, INPAINT, VAMP, Root, compose


def test_variation_defaults_are_the_same_in_yaml_and_in_python() -> None:
    settings = compose(VAMP, ["audio=[a.wav]"])
    assert settings.sampling == VampSampling()
    assert settings.mask == MaskConfig()
    assert settings.storage.flush_tokens == 1, "every pass is stored"


def test_a_fine_tune_is_the_model_with_other_transformers() -> None:
    found, base = compose(VAMP, ["audio=[a.wav]", "model=vampnet:choir"]).model, load_preset("vampnet")
    assert found == load_preset("vampnet:choir")
    assert found.name == "vampnet-choir"
    assert {role: file.path for role, file in found.files.weights.items()} == {
        "codec": "codec.pth", "coarse": "loras/choir/coarse.pth", "c2f": "loras/choir/c2f.pth",
    }  # fmt: skip
    assert (found.network, found.files.terms, found.files.licence) == (
        base.network, base.files.terms, base.files.licence,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("root", "overrides", "words"),
    [
        (
            VAMP,
            ["model=mini"],
            "models of the family jukebox vary no recordings; choose one that does, as model=vampnet",
        ),
        (VAMP, ["model=mini:choir"], "mini has no fine-tunes by name; write model=mini"),
        (VAMP, ["model=vampnet:.x"], "the name of a fine-tune"),
        (VAMP, ["model=vampnt:choir"], "closest: 'vampnet'"),
        (VAMP, ["mask.period=-1"], "period is -1; it cannot be negative"),
        (VAMP, ["mask.perod=7"], "mask.perod is not a setting; closest: 'period'"),
        (VAMP, ["mask.beats.every=0"], "every is 0; it must be at least 1"),
        (VAMP, ["mask.beats.source=librosa", "mask.beats.times=[1.0]"], "times are given as well"),
        (VAMP, ["mask.stretch=0"], "stretch is 0; it must be at least 1"),
        (VAMP, ["sampling.coarse.steps=0"], "steps is 0; it must be positive"),
        (VAMP, ["sampling.overlap=1.0"], "overlap is 1.0"),
        (VAMP, ["audio=[]"], "audio is empty"),
        (INPAINT, ["start=2.0", "stop=1.0"], "start is 2 s and stop 1 s; times must rise"),
        (INPAINT, ["start=-1.0", "stop=1.0"], "start is -1.0; it cannot be negative"),
        (GENERATE, ["model=vampnet"], "models of the family vampnet vary recordings"),
    ],
    ids=str,
)
def test_settings_of_a_variation_that_do_not_fit_are_refused(
    root: Root[object], overrides: list[str], words: str
) -> None:
    given = [] if root is GENERATE or any(o.startswith("audio") for o in overrides) else ["audio=[a.wav]"]
    with pytest.raises(ConfigError) as caught:
        compose(root, [*given, *overrides])
    assert words in str(caught.value)
