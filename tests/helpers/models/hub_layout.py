"""Golden checkpoints under the hub's names, as a converter in the other direction would write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_PLAIN = (
    ("prime_prior.x_emb", "encoder.embed_tokens"),
    ("prime_prior.", "encoder."),
    ("prime_state_ln", "encoder.final_layer_norm"),
    ("prime_state_proj", "encoder.proj_in"),
    ("prime_x_out", "encoder.lm_head"),
    ("x_emb.", "embed_tokens."),
    ("x_out.", "fc_proj_out."),
    ("artist_emb.emb.", "artist_emb."),
    ("bow_genre_emb.emb.", "bow_genre_emb."),
    ("y_emb.", "metadata_embedding."),
    ("conditioner_blocks.0.cond.", "conditioner_blocks.upsampler."),
    ("conditioner_blocks.0.ln.", "conditioner_blocks.layer_norm."),
    ("conditioner_blocks.0.", "conditioner_blocks."),
    (".ln_", ".layer_norm_"),
)


def hub_name(name: str, downs: tuple[int, ...]) -> str:
    """The hub's name for a weight of the original's, both without the network's prefix."""
    name = re.sub(r"\.w$", ".weight", re.sub(r"\.b$", ".bias", re.sub(r"\.k$", ".codebook", name)))
    for theirs, hubs in _PLAIN:
        name = name.replace(theirs, hubs)
    found = re.fullmatch(r"(encoders\.\d+\.level_blocks\.(\d+))\.model\.(\d+)\.(.*)", name)
    if found:
        front, part, step, rest = found.groups()
        if int(step) == downs[int(part)]:
            return f"{front}.proj_out.{rest}"
        return _step(f"{front}.downsample_block", 2 * int(step), rest)
    found = re.fullmatch(
        r"((?:decoders\.\d+\.level_blocks\.\d+)|(?:conditioner_blocks\.upsampler))\.model\.(\d+)\.(.*)", name
    )
    if found:
        front, step, rest = found.groups()
        if step == "0":
            return f"{front}.proj_in.{rest}"
        return _step(f"{front}.upsample_block", 2 * (int(step) - 1), rest)
    return name


def _step(front: str, first: int, rest: str) -> str:
    inner, _, rest = rest.partition(".")
    found = re.fullmatch(r"(?:model|blocks)\.(\d+)\.model\.(1|3)\.(\w+)", rest)
    if found is None:
        return f"{front}.{first + int(inner)}.{rest}"
    block, convolution, what = found.groups()
    return f"{front}.{first + int(inner)}.resnet_block.{block}.conv1d_{1 if convolution == '1' else 2}.{what}"


def whole_model(files: dict[str, Path], downs: tuple[int, ...]) -> dict[str, Tensor]:
    """All networks of a model in one flat dict, in float32, by prefix: ``vqvae``, ``priors.0`` (the top) and so on."""
    tensors: dict[str, Tensor] = {}
    for prefix, path in files.items():
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        for name, tensor in state.items():
            tensors[f"{prefix}.{hub_name(name.removeprefix('module.'), downs)}"] = tensor.float()
    return tensors


def write_shards(tensors: dict[str, Tensor], folder: Path, count: int = 2) -> list[Path]:
    """The dict cut into as many files, under the hub's names for them."""
    folder.mkdir(parents=True, exist_ok=True)
    names, paths = sorted(tensors), []
    for number in range(count):
        path = folder / f"pytorch_model-{number + 1:05}-of-{count:05}.bin"
        torch.save({name: tensors[name] for name in names[number::count]}, path)
        paths.append(path)
    return paths
