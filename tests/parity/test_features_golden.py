"""Codes and activations, against the original's numbers taken from codes.

Kinds of priors, layers and recordings are read from the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jukebox_core.families.jukebox.checkpoints.loading import load_prior
from jukebox_core.families.jukebox.features.activations import layer_outputs
from jukebox_core.families.jukebox.sampling.codec import VQVAECodec
from jukebox_core.features.clips import peak_normalised
from tests.helpers.engines import prepared
from tests.helpers.golden import golden_files
from tests.helpers.models import zoo
from tests.helpers.models.golden_features import RECIPES_MODEL, arrays, same, wav
from tests.helpers.models.golden_priors import FLOAT16, condition, read_prior, read_vqvae

if TYPE_CHECKING:
    from pathlib import Path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        files = golden_files(metafunc.config, "features/acts_*.npz")
        metafunc.parametrize("kind", [path.removesuffix(".npz").rpartition("acts_")[2] for path in files])


# Activations from codes


def test_activations_from_codes(golden: Path, about: dict[str, Any], kind: str) -> None:
    given = read_bundle_arrays(golden, kind)
    prior, info = read_prior(golden, kind), about["cases"][f"acts_{kind}"]
    with torch.no_grad():
        conditioning = condition(prior, given)
    same(conditioning.start_B1W.numpy(), given["y_cond"].numpy(), "y_cond")
    assert conditioning.signal_BTW is not None
    if "x_cond" in given:
        rows = given["x_cond"].shape[1]
        same(conditioning.signal_BTW[:, :rows].numpy(), given["x_cond"].numpy(), "x_cond")
    layers = recorded(given, info)
    outputs = [*layer_outputs(prior, given["z"], conditioning, layers, final=True)]
    assert [each.layer for each in outputs if not each.is_final] == layers
    for each in outputs:
        if each.is_final:
            same(each.x_BTW[:1].numpy(), given["final"].numpy(), "final")
            continue
        same(each.x_BTW.numpy(), given[f"layer{each.layer}"].numpy(), f"layer {each.layer}")
        for name, pooled in (("mean", each.x_BTW.mean(1)), ("max", each.x_BTW.amax(1))):
            if f"layer{each.layer}.{name}" in given:
                same(pooled.numpy(), given[f"layer{each.layer}.{name}"].numpy(), f"{name} of layer {each.layer}")


def read_bundle_arrays(golden: Path, kind: str) -> dict[str, torch.Tensor]:
    found = {name: torch.from_numpy(value) for name, value in arrays(golden, f"acts_{kind}").items()}
    return {name: value if value.is_floating_point() else value.long() for name, value in found.items()}


def recorded(given: dict[str, torch.Tensor], info: dict[str, Any]) -> list[int]:
    """The layers whose arrays are there."""
    layers = [layer for layer in info["layers"] if f"layer{layer}" in given]
    assert layers
    return layers


def test_a_short_clip_gives_the_first_rows(golden: Path, about: dict[str, Any], kind: str) -> None:
    given, info = read_bundle_arrays(golden, kind), about["cases"][f"acts_{kind}"]
    prior, layer = read_prior(golden, kind), info["short_layer"]
    with torch.no_grad():
        conditioning = condition(prior, given, 1)
    for length in info["short_lengths"]:
        (found,) = layer_outputs(prior, given["z"][:1, :length], conditioning, [layer])
        same(found.x_BTW[0].numpy(), given[f"short{length}.layer{layer}"].numpy(), f"{length} codes")


def test_half_precision(golden: Path, kind: str) -> None:
    given = read_bundle_arrays(golden, kind)
    expected = {name: value for name, value in given.items() if name.endswith(".fp16_item0")}
    if not expected:
        pytest.skip("no arrays of half precision")
    layers = sorted(int(name.partition(".")[0].removeprefix("layer")) for name in expected)
    prior = read_prior(golden, kind, torch.float16)
    with torch.no_grad():
        conditioning = condition(prior, given, 1)
    for each in layer_outputs(prior, given["z"][:1], conditioning, layers):
        assert each.x_BTW.dtype is torch.float16
        same(each.x_BTW[0].numpy(), expected[f"layer{each.layer}.fp16_item0"].numpy(), f"layer {each.layer}", **FLOAT16)


def test_the_first_layers_alone_give_the_same(golden: Path, about: dict[str, Any], kind: str) -> None:
    given, info = read_bundle_arrays(golden, kind), about["cases"][f"acts_{kind}"]
    whole = read_prior(golden, kind)
    files, config = zoo.files(golden, model_of(kind)), zoo.config(golden, model_of(kind))
    level = whole.config.level
    for deepest in recorded(given, info):
        part = prepared(load_prior(config, level, files[f"level_{level}"], deepest=deepest))
        assert len(part.body.transformer.blocks) == deepest
        assert not [name for name, tensor in part.state_dict().items() if tensor.is_meta]
        with torch.no_grad():
            conditioning = condition(part, given)
        (found,) = layer_outputs(part, given["z"], conditioning, [deepest])
        same(found.x_BTW.numpy(), given[f"layer{deepest}"].numpy(), f"layer {deepest}")


def model_of(kind: str) -> str:
    """The golden model that a kind of prior belongs to."""
    return {"p5bl": "5b_lyrics", "p1bl": "1b_lyrics"}.get(kind, RECIPES_MODEL)


# Codes


def test_codes(golden: Path) -> None:
    codec, checked = VQVAECodec(read_vqvae(golden)), 0
    for name, expected in arrays(golden, "codes").items():
        recording, how, level = name.split(".")
        audio = wav(golden, recording)
        audio = peak_normalised(audio) if how == "peak" else audio
        (found,) = codec.encode(audio[None], [int(level[1:])])
        np.testing.assert_array_equal(found[0], expected, name)
        checked += 1
    assert checked
