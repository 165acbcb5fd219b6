"""Golden vectors of VampNet as this program's records: models, settings of passes, recorded noise."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml

from jukebox_core.families.vampnet.checkpoints.loading import load_codec, load_transformer
from jukebox_core.families.vampnet.config import CodecConfig as CodecConfig
from jukebox_core.families.vampnet.config import VampNetNetwork
from jukebox_core.families.vampnet.sampling.config import PassConfig
from jukebox_core.families.vampnet.sampling.interface import Interface
from jukebox_core.families.vampnet.sampling.noise import PassNoise, gumbel_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.vampnet.model.codec import Codec
    from jukebox_core.families.vampnet.model.transformer import VampTransformer
    from jukebox_core.families.vampnet.sampling.noise import GridSize

# Tolerances of the README of the golden vectors, section 9.
LATENTS, QUANTISED, AUDIO, LOGITS, LOUDNESS = 1e-4, 1e-5, 1e-5, 5e-5, 1e-3
ROLES = ("coarse", "c2f")
_NAMES = {
    "_sampling_steps": "steps",
    "temperature": "temperature",
    "mask_temperature": "mask_temperature",
    "typical_filtering": "typical",
    "typical_mass": "typical_mass",
    "typical_min_tokens": "typical_min_tokens",
    "top_p": "top_p",
    "sample_cutoff": "cutoff",
}


def need(path: Path) -> Path:
    """The path of a file; skips the test where it is absent."""
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return path


def load(path: Path) -> Any:
    return json.loads(need(path).read_text(encoding="utf-8"))


def tensors(path: Path) -> dict[str, Tensor]:
    """Arrays as tensors; integers are int64."""
    with np.load(need(path)) as opened:
        made = {name: torch.from_numpy(opened[name]) for name in opened.files}
    return {name: each if each.is_floating_point() else each.long() for name, each in made.items()}


def sound(x_int16: Tensor) -> Tensor:
    return x_int16.float() / 32768


@lru_cache
def codec(golden: Path) -> Codec:
    return load_codec(need(golden / "models/vampnet/codec.pth"))


@lru_cache
def transformer(golden: Path, role: str, *, lora: bool = False) -> VampTransformer:
    folder = golden / ("models/vampnet/loras/tiny" if lora else "models/vampnet")
    return load_transformer(need(folder / f"{role}.pth"), codec(golden))


def interface(golden: Path, coarse_chunk: int, c2f_chunk: int, *, lora: bool = False) -> Interface:
    coarse, c2f = (transformer(golden, role, lora=lora) for role in ROLES)
    return Interface(codec(golden), coarse, c2f, coarse_chunk, c2f_chunk)


def passes(kwargs: Mapping[str, Any], **defaults: Any) -> PassConfig:
    """Settings of passes under upstream's names; those that belong elsewhere are left out."""
    given = {_NAMES[name]: value for name, value in kwargs.items() if name in _NAMES}
    return PassConfig(**{**defaults, **given})


@dataclass(frozen=True)
class RecordedNoise:
    """The noise that upstream drew, of the arrays whose names start with `prefix`."""

    arrays: Mapping[str, Tensor]
    prefix: str

    def draw(self, index: int, size: GridSize, *, tokens: bool) -> PassNoise:
        step = f"{self.prefix}.step{index:02d}"
        drawn = self.arrays[f"{step}.exp_noise"].view(size.items, -1, size.codes) if tokens else None
        return PassNoise(drawn, gumbel_of(self.arrays[f"{step}.uniform"]))


def close(found: Tensor, expected: Tensor, atol: float) -> None:
    torch.testing.assert_close(found.detach(), expected, atol=atol, rtol=0)


def close_if(arrays: Mapping[str, Tensor], name: str, found: Tensor, atol: float) -> None:
    """Compares with an array that the committed subset may lack."""
    if name in arrays:
        close(found, arrays[name], atol)


def same(found: Tensor, expected: Tensor) -> None:
    """Compares integers or booleans exactly."""
    assert torch.equal(found.long(), expected.long()), f"{(found.long() != expected.long()).sum()} differ"


def write_preset(golden: Path, folder: Path, licence: str = "none, it is noise") -> Path:
    """A preset of the golden model, whose files are read where they are."""
    made, coarse, c2f = codec(golden), *(transformer(golden, role) for role in ROLES)
    sizes = load(golden / "interface/interface.json")
    network = VampNetNetwork(
        codec=made.config.codebooks,
        coarse=coarse.config,
        c2f=c2f.config,
        coarse_seconds=sizes["chunk_coarse_s"],
        c2f_seconds=sizes["chunk_c2f_s"],
    )
    data: dict[str, Any] = {
        "defaults": ["vampnet"],
        "name": "golden",
        "network": dataclasses.asdict(network),
        "files": {"weight_sources": [str(golden / "models/vampnet")], "licence": licence, "terms": None},
    }
    path = folder / "golden.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path
