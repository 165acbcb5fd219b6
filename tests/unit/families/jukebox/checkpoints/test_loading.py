from __future__ import annotations

import math
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks.upstream_files import draw, write_upstream
from jukebox_core.errors import CheckpointError
from jukebox_core.families.jukebox.checkpoints.loading import build_prior, build_vqvae, load_prior, load_vqvae
from jukebox_core.families.jukebox.model.layers import Projection
from jukebox_core.families.jukebox.sampling.memory import estimate_bytes, estimate_bytes_together, weight_bytes
from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

HEAVY = """
import sys
from jukebox_core.families.jukebox.checkpoints.loading import build_prior, build_vqvae
from jukebox_core.models.presets import load_preset
before = set(sys.modules)
config = load_preset("5b_lyrics").config
build_vqvae(config)
for level in range(3):
    build_prior(config, level)
print(*{name.split(".")[0] for name in set(sys.modules) - before}, sep="\\n")
"""


def test_building_without_memory_takes_none_and_imports_nothing_heavy() -> None:
    config = load_preset("mini").config
    for module in (build_vqvae(config), build_prior(config, 0), build_prior(config, 2)):
        assert all(tensor.is_meta for tensor in module.state_dict().values())
    imported = subprocess.run([sys.executable, "-c", HEAVY], capture_output=True, text=True, check=True).stdout.split()
    assert "sympy" not in imported  # comes with the random numbers of the meta device


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
def test_projections_are_converted_and_nothing_else_is(tmp_path: Path, level: int, dtype: str, legacy: bool) -> None:
    config = load_preset("mini").config
    write_upstream(config, f"level_{level}", tmp_path / "prior.pth.tar", legacy=legacy)
    prior = load_prior(config, level, tmp_path / "prior.pth.tar", dtype=dtype)
    inner = {
        f"body.transformer.{name}.{parameter}"
        for name, module in prior.body.transformer.named_modules()
        if isinstance(module, Projection)
        for parameter in ("weight", "bias")
    }
    if dtype == "bfloat16":
        inner |= {name for name, _ in prior.named_parameters() if name.startswith("above.upsampler.")}
    for name, parameter in prior.named_parameters():
        assert parameter.dtype == (getattr(torch, dtype) if name in inner else torch.float32)
        assert torch.equal(parameter, draw(name, parameter.shape).to(parameter.dtype))


def spoilt(module: nn.Module, name: str, value: float, path: Path) -> Path:
    """A file with the tensors of a module on the meta device, of which one number is `value`."""
    tensors = {each: draw(each, tensor.shape) for each, tensor in module.named_parameters()}
    tensors |= {each: torch.zeros(tensor.shape) for each, tensor in module.named_buffers()}
    tensors[name].view(-1)[-1] = value
    save_safetensors(tensors, path)
    return path


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
def test_a_prior_with_a_number_that_is_not_finite_is_refused(tmp_path: Path, dtype: str, value: float) -> None:
    config = load_preset("mini").config
    names = ("body.position_PW", "body.transformer.blocks.5.feed_forward.project_in.weight", "labels.artist.weight")
    for name in names:
        path = spoilt(build_prior(config, 1), name, value, tmp_path / "prior.safetensors")
        with pytest.raises(CheckpointError) as caught:
            load_prior(config, 1, path, dtype=dtype)
        assert f"{path}: tensor {name} of level 1 of mini holds numbers that are not finite" in str(caught.value)


def test_a_codec_with_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    config = load_preset("mini").config
    encoder = next(name for name, _ in build_vqvae(config).named_parameters() if name.startswith("levels.0.encoder"))
    for name in ("levels.1.codebook", "levels.2.output.weight", encoder):
        path = spoilt(build_vqvae(config), name, math.nan, tmp_path / "vqvae.safetensors")
        with pytest.raises(CheckpointError, match=f"tensor {name} of the VQ-VAE of mini holds numbers that are not"):
            load_vqvae(config, path)


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
def test_upstreams_formats_are_looked_through_too(tmp_path: Path, legacy: bool) -> None:
    config, path = load_preset("mini").config, tmp_path / "prior.pth.tar"
    write_upstream(config, "level_2", path, legacy=legacy)
    stored = torch.load(path, weights_only=True)
    stored["model"]["prior.x_emb.weight"][3, 2] = math.inf
    torch.save(stored, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"tensor prior\.x_emb\.weight of level 2 of mini holds numbers"):
        load_prior(config, 2, path)


def test_a_number_that_the_precision_cannot_hold_is_refused(tmp_path: Path) -> None:
    config, name = load_preset("mini").config, "body.transformer.blocks.0.attention.project_in.weight"
    path = spoilt(build_prior(config, 0), name, 1e6, tmp_path / "prior.safetensors")
    with pytest.raises(CheckpointError, match=r"reaches 1e\+06, beyond the range of torch\.float16; choose hardware"):
        load_prior(config, 0, path, dtype="float16")
    assert load_prior(config, 0, path, dtype="bfloat16") is not None


def test_the_estimate_grows_with_the_batch_and_shrinks_with_precision() -> None:
    config = load_preset("1b_lyrics").config
    one, four = (estimate_bytes(config, 2, "float32", batch) for batch in (1, 4))
    assert 3_770_000_000 < one < four < 2 * one
    assert estimate_bytes(config, 2, "bfloat16", 1) < 0.7 * one


def test_priors_that_stay_in_memory_together_take_more_than_the_largest_of_them() -> None:
    config = load_preset("mini").config
    alone = [estimate_bytes(config, level, "float32", 2) for level in range(3)]
    together = estimate_bytes_together(config, range(3), "float32", 2)
    assert max(alone) + min(weight_bytes(config, level, "float32") for level in range(3)) < together < sum(alone)
