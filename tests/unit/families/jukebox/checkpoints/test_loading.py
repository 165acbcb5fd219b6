from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks.upstream_files import draw, write_upstream
from jukebox_core.families.jukebox.checkpoints.loading import build_prior, build_vqvae, load_prior
from jukebox_core.families.jukebox.model.layers import Projection
from jukebox_core.families.jukebox.sampling.memory import estimate_bytes, estimate_bytes_together, weight_bytes
from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from pathlib import Path

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
