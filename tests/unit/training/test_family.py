"""Jukebox behind the protocol of training, and the settings of a training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jukebox_core.errors import ConfigError
from jukebox_core.family import open_family
from jukebox_core.models.presets import load_preset
from jukebox_core.training.family import TrainableFamily
from pipelines.settings.compose import FINETUNE, TRAIN, compose

JUKEBOX = open_family("jukebox").training()


def test_jukebox_fulfils_the_protocol() -> None:
    assert isinstance(JUKEBOX, TrainableFamily)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("mini", ("vqvae", "level_2", "level_1", "level_0")), ("small_prior", ("vqvae", "level_1", "level_0"))],
)
def test_the_codec_is_trained_first_then_the_priors_from_the_top(name: str, parts: tuple[str, ...]) -> None:
    assert JUKEBOX.parts(load_preset(name).config) == parts
    assert [JUKEBOX.learns_from_codes(role) for role in parts] == [False, *[True] * (len(parts) - 1)]


def test_parts_default_to_all_of_the_model() -> None:
    assert compose(TRAIN, ["data.audio=a"]).roles == ("vqvae", "level_2", "level_1", "level_0")
    assert compose(TRAIN, ["data.audio=a", "recipe=small"]).roles == ("vqvae", "level_1", "level_0")
    assert compose(FINETUNE, ["data.audio=a"]).roles == ("level_2",)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["parts=[level_2,vqvae]"], "vqvae comes first: the others learn its codes"),
        (["parts=[level_2,level_2]"], "name at least one part, and each once"),
        (["parts=[]"], "name at least one part, and each once"),
        (["parts=[level_3]"], "parts names 'level_3', but mini consists of vqvae, level_0, level_1, level_2"),
        (["data.codes=codes"], "but vqvae is trained too and its codes are not known yet"),
        (["data.audio=null"], "data.audio is null; name the folder of music"),
        (["data.audio=null", "parts=[level_2]"], "data.audio is null; name the folder of music"),
        (["training.level_2.label_dropout=2"], "training.level_2.label_dropout is 2.0; it is a share"),
        (["training.vqvae.codebook.ema_decay=1"], "training.vqvae.codebook.ema_decay is 1.0; it must be above 0"),
        (["training.level_1.guided_attention_sigma=0"], "guided_attention_sigma is 0.0; it is a number of characters"),
        (["+labels.artist={mine: null}"], "labels.artist is not a setting"),
    ],
    ids=str,
)
def test_wrong_settings_of_a_training_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(TRAIN, ["data.audio=a", *overrides])
    assert message in str(caught.value)


def test_settings_of_a_training_need_no_torch() -> None:
    code = (
        "import sys\nfrom pipelines.settings.compose import TRAIN, compose\n"
        "compose(TRAIN, ['data.audio=a'])\nsys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("folder", ["stages/training", "pipelines/settings", "pipelines/flows"])
def test_stages_and_flows_of_training_name_no_part(folder: str) -> None:
    from tests.helpers.paths import ROOT

    for path in Path(ROOT / folder).glob("*.py"):
        text = path.read_text()
        assert "jukebox_core.families" not in text, path
        assert not [word for word in ("vqvae", "level_0", "level_2", '"level_') if word in text], path
