"""The priors of the golden vectors with their weights, for the parity tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jukebox_core.families.jukebox.checkpoints.renames import PRIOR_RENAMES, VQVAE_RENAMES
from jukebox_core.families.jukebox.checkpoints.upstream import prior_config, vqvae_config
from jukebox_core.families.jukebox.conditioning.labels import SongLabels
from jukebox_core.families.jukebox.conditioning.lyrics import alphabet
from jukebox_core.families.jukebox.model.prior import Condition, Prior
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.models.checkpoints.checkpoint import load_into, open_checkpoint
from tests.helpers.engines import prepared

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

# Tolerances and their reasons: docs/upstream.md, Tolerances.
FLOAT32 = {"atol": 2e-5, "rtol": 1e-4}
FLOAT16 = {"atol": 5e-2, "rtol": 0.0}
VQVAE_FILE = "5b/vqvae"
FILES = {
    "up0": "5b/prior_level_0",
    "up1": "5b/prior_level_1",
    "p5b": "5b/prior_level_2",
    "p5bl": "5b_lyrics/prior_level_2",
    "p1bl": "1b_lyrics/prior_level_2",
}


@dataclass(frozen=True)
class Bundle:
    """The arrays and the metadata of one recorded case."""

    arrays: dict[str, Tensor]
    info: dict[str, Any]


def need(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return path


@cache
def read_bundle(golden: Path, name: str) -> Bundle:
    arrays = np.load(need(golden / f"{name}.npz"))
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
    for key, value in tensors.items():
        if not value.is_floating_point():
            tensors[key] = value.long()  # stored as int32, used as int64
    return Bundle(tensors, json.loads(need(golden / f"{name}.json").read_text()))


def hyperparameters(golden: Path, file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(need(golden / "zoo/models" / f"{file}.hps.json").read_text())
    return found


@cache
def read_vqvae(golden: Path) -> VQVAE:
    with torch.device("meta"):
        vqvae = VQVAE(vqvae_config(hyperparameters(golden, VQVAE_FILE)))
    load_into(vqvae, open_checkpoint(need(golden / "zoo/models" / f"{VQVAE_FILE}.pth.tar")), VQVAE_RENAMES)
    return vqvae.eval()


@cache
def read_prior(golden: Path, kind: str, dtype: torch.dtype = torch.float32) -> Prior:
    return prepared(read_plain_prior(golden, kind, dtype))


def read_plain_prior(golden: Path, kind: str, dtype: torch.dtype = torch.float32) -> Prior:
    vqvae_hps = hyperparameters(golden, VQVAE_FILE)
    config = prior_config(hyperparameters(golden, FILES[kind]), vqvae_hps)
    with torch.device("meta"):
        prior = Prior(config, vqvae_config(vqvae_hps))
    load_into(prior, open_checkpoint(need(golden / "zoo/models" / f"{FILES[kind]}.pth.tar")), PRIOR_RENAMES)
    if dtype != torch.float32:  # without it, half weights are converted where they are used
        prior.set_compute_dtype(dtype)
    return prior.eval()


def condition(prior: Prior, arrays: dict[str, Tensor], songs: int | None = None) -> Condition:
    above = arrays.get("z_cond")
    return prior.condition(arrays["y"][:songs], None if above is None else above[:songs])


def song_labels(prior: Prior, row: list[int], lyrics: str) -> SongLabels:
    """The song that a label row of its first window belongs to."""
    words = prior.config.labels.max_genre_words if prior.config.labels else 0
    return SongLabels(
        artist_id=row[3],
        genre_ids=tuple(genre for genre in row[4 : 4 + words] if genre >= 0),
        lyric_tokens=alphabet(prior.config.lyrics.characters).tokens(lyrics) if prior.config.lyrics else (),
        total_length=row[0],
        offset=row[1],
    )


def close(actual: Tensor, expected: Tensor, what: str, *, atol: float, rtol: float) -> None:
    torch.testing.assert_close(
        actual.float(), expected.float(), atol=atol, rtol=rtol, msg=lambda message: f"{what}: {message}"
    )
