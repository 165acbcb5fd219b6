"""VampNet behind the door: what it offers, what it refuses by name, sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from jukebox_core.errors import CheckpointError, ConfigError
from jukebox_core.families.vampnet.config import LORA_RANK, TransformerConfig, VampNetConfig, VampNetNetwork
from jukebox_core.families.vampnet.sampling.memory import WORKING_BYTES, weight_bytes
from jukebox_core.family import Family, open_family, open_varying, varies
from jukebox_core.models.presets import load_preset
from jukebox_core.protocols import VaryingFamily
from tests.helpers.models import vampnet as gold

if TYPE_CHECKING:
    from pathlib import Path


def test_all_of_the_protocols_is_there() -> None:
    family = open_family("vampnet")
    assert isinstance(family, Family)
    for protocol in (Family, VaryingFamily):
        wanted = {*protocol.__annotations__, *vars(protocol)}
        assert [what for what in wanted if not what.startswith("_") and not hasattr(family, what)] == []


PRECISIONS = ("float32", "bfloat16", "int8")


def test_a_transformer_is_made_from_two_files() -> None:
    family = open_family("vampnet")
    assert family.files_of("codec") == ("codec",)
    assert family.files_of("c2f") == ("c2f", "codec")


def test_memory_is_that_of_upstreams_parameters() -> None:
    preset = load_preset("vampnet")
    for role, published in (("coarse", 335_893_664 - 2_867_200), ("c2f", 277_753_072 - 2_293_760)):
        assert weight_bytes(preset.config, role) == 4 * published  # updates are merged
    one = preset.opened.estimate_bytes(preset.config, (0, 1), "float32", 1, together=False)
    assert 4 * 335_893_664 < one - WORKING_BYTES < 1.2 * 4 * 335_893_664
    both = preset.opened.estimate_bytes(preset.config, (0, 1), "float32", 1, together=True)
    assert both > 4 * (335_893_664 + 277_753_072)
    alone, together = (
        [preset.opened.estimate_bytes(preset.config, (0, 1), dtype, 1, together=kind) for dtype in PRECISIONS]
        for kind in (False, True)
    )
    assert alone[0] > alone[1] == alone[2] > 4 * 333_000_000  # they are loaded in float32
    assert together[0] > together[1] > together[2] > alone[2]


def test_only_this_family_varies() -> None:
    assert varies(open_family("vampnet"))
    assert not varies(open_family("mt3"))
    assert not varies(open_family("jukebox"))
    with pytest.raises(ConfigError, match="models of the family mt3 vary no recordings"):
        open_varying("mt3")


def test_the_official_model_has_the_parameters_of_upstreams_files() -> None:
    preset = load_preset("vampnet")
    assert preset.opened.approximate_parameters(preset.config) == 335_893_664 + 277_753_072
    assert preset.network.coarse.parameters(LORA_RANK) == 335_893_664
    assert preset.network.chunk("coarse") == 575
    assert preset.network.chunk("c2f") == 173
    assert "CC BY-NC-SA 4.0" in preset.files.licence


def config_of(golden: Path) -> VampNetConfig:
    codec, coarse, c2f = gold.codec(golden), *(gold.transformer(golden, role) for role in gold.ROLES)
    network = VampNetNetwork(codec=codec.config.codebooks, coarse=coarse.config, c2f=c2f.config)
    return VampNetConfig(name="golden", network=network)


def test_files_are_checked_against_the_preset(golden_vampnet: Path) -> None:
    family, config, models = open_family("vampnet"), config_of(golden_vampnet), golden_vampnet / "models"
    for role in family.roles(config):
        family.check_file(config, role, models / f"vampnet/{role}.pth")
    for variant in sorted((models / "variants").glob("codec_*.pth")):
        with pytest.raises(CheckpointError, match="has other sizes than the model"):
            family.check_file(config, "codec", variant)
    with pytest.raises(CheckpointError, match="has other sizes than the model"):
        family.check_file(config, "coarse", models / "vampnet/c2f.pth")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_heads": 3}, "embedding_dim is 16; it must be a multiple of n_heads, 3"),
        ({"n_conditioning_codebooks": 2}, "of 2 codebooks it may take 0 to 1"),
        ({"n_layers": 0}, "n_layers is 0; it must be positive"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, Any], words: str) -> None:
    sizes = {"n_heads": 2, "n_layers": 1, "n_codebooks": 2, "embedding_dim": 16}
    with pytest.raises(ConfigError, match=words):
        TransformerConfig(**(sizes | changes))
