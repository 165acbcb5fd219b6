"""Whole models of the golden vectors: small ones of each released kind, laid out as the released files are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from jukebox_core.families.jukebox.checkpoints.upstream import prior_config, vqvae_config
from jukebox_core.families.jukebox.config import JukeboxConfig, PriorsConfig
from tests.helpers.golden import golden_files

if TYPE_CHECKING:
    from pathlib import Path

SHARED_BY_ALL = "5b"  # whose VQ-VAE and upsamplers the other kinds use


def kinds(config: pytest.Config) -> list[str]:
    """The kinds of golden models, cheapest to sample first."""
    tops = golden_files(config, "zoo/models/*/prior_level_2.hps.json")
    return sorted((path.split("/")[2] for path in tops), key=lambda kind: (len(kind), kind))


def files(golden: Path, kind: str) -> dict[str, Path]:
    """The weight files of a model by role; skips where one is absent."""
    own, shared = golden / "zoo/models" / kind, golden / "zoo/models" / SHARED_BY_ALL
    roles = {"vqvae": "vqvae", **{f"level_{level}": f"prior_level_{level}" for level in range(3)}}
    found = {role: (own if (own / f"{name}.pth.tar").is_file() else shared) for role, name in roles.items()}
    paths = {role: folder / f"{roles[role]}.pth.tar" for role, folder in found.items()}
    for path in paths.values():
        if not path.is_file():
            pytest.skip(f"{path} is absent")
    return paths


def config(golden: Path, kind: str) -> JukeboxConfig:
    """The configuration of a model, from the hyperparameters beside its weights."""
    hyperparameters = {
        role: json.loads(path.with_name(path.name.replace(".pth.tar", ".hps.json")).read_text())
        for role, path in files(golden, kind).items()
    }
    vqvae = hyperparameters.pop("vqvae")
    priors = PriorsConfig(**{role: prior_config(hps, vqvae) for role, hps in hyperparameters.items()})
    return JukeboxConfig(name=f"golden_{kind}", vqvae=vqvae_config(vqvae), priors=priors)
