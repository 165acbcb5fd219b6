"""The files that benchmarks write hold the tensors and hyperparameters that recorded checkpoints hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks.upstream_files import prior_hps, upstream_name, vqvae_hps, write_upstream
from jukebox_core.families.jukebox.checkpoints.loading import load_prior, load_vqvae
from jukebox_core.families.jukebox.checkpoints.upstream import prior_config, vqvae_config
from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.models.checkpoints.checkpoint import open_checkpoint
from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from pathlib import Path


def recorded(golden: Path, pattern: str) -> list[Path]:
    found = sorted((golden / "zoo" / "models").glob(pattern))
    if not found:
        pytest.skip(f"zoo/models/{pattern} is absent")
    return found


def shapes(state: dict[str, torch.Tensor], *, vqvae: bool) -> dict[str, torch.Size]:
    return {upstream_name(name, vqvae=vqvae): tensor.shape for name, tensor in state.items()}


def test_names_and_shapes_are_those_of_recorded_priors(golden: Path) -> None:
    vqvae_metadata = open_checkpoint(recorded(golden, "5b/vqvae.pth.tar")[0]).metadata
    for path in recorded(golden, "*/prior_level_*.pth.tar"):
        checkpoint = open_checkpoint(path)
        config = prior_config(checkpoint.metadata, vqvae_metadata)
        with torch.device("meta"):
            ours = Prior(config, vqvae_config(vqvae_metadata)).state_dict()
        assert shapes(ours, vqvae=False) == {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
        assert prior_config(prior_hps(config), vqvae_metadata) == config


def test_names_and_shapes_are_those_of_a_recorded_vqvae(golden: Path) -> None:
    checkpoint = open_checkpoint(recorded(golden, "5b/vqvae.pth.tar")[0])
    config = vqvae_config(checkpoint.metadata)
    with torch.device("meta"):
        ours = VQVAE(config).state_dict()
    assert shapes(ours, vqvae=True) == {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    assert vqvae_config(vqvae_hps(config)) == config


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
def test_every_file_loads(tmp_path: Path, legacy: bool) -> None:
    config = load_preset("mini").config
    for role in ("vqvae", "level_0", "level_1", "level_2"):
        path = tmp_path / f"{role}.pth.tar"
        size = write_upstream(config, role, path, legacy=legacy)
        assert size < path.stat().st_size < 1.05 * size + 200_000
        if role == "vqvae":
            load_vqvae(config, path)
        else:
            load_prior(config, int(role[-1]), path)
