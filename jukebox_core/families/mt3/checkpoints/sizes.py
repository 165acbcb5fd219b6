"""Sizes of a model, read from the shapes of a file's tensors: for messages about files of another size."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.families.mt3.checkpoints.renames import Renames
    from jukebox_core.families.mt3.config import MT3Network
    from jukebox_core.models.checkpoints.checkpoint import Checkpoint

_COUNTS = {  # sizes that are numbers of layers
    "transformer.decoder_depth": r"decoder\.layers\.(\d+)\.norm_attention\.weight",
    "transformer.encoder_depth": r"encoder\.layers\.(\d+)\.norm_attention\.weight",
    "memory.depth": r"memory\.stack\.layers\.(\d+)\.norm_attention\.weight",
    "perceiver.blocks": r"encoder\.blocks\.(\d+)\.cross\.norm_latents\.weight",
    "perceiver.local_depth": r"encoder\.blocks\.0\.local\.(\d+)\.norm_experts\.weight",
    "perceiver.temporal_depth": r"encoder\.blocks\.0\.temporal\.(\d+)\.norm_experts\.weight",
    "perceiver.experts": r"encoder\.blocks\.0\.local\.0\.experts\.experts\.(\d+)\.w1\.weight",
}
_AXES = {  # sizes that are an axis of a tensor
    "transformer.embeddings": ("head.weight", 0),
    "transformer.width": ("head.weight", 1),
    "transformer.mlp_width": ("decoder.layers.0.feed_forward.wi_0.weight", 0),
    "perceiver.convolutions": ("encoder.convolutions.0.conv2.weight", 0),
    "perceiver.latents": ("encoder.latents", 0),
    "perceiver.width": ("encoder.latents", 1),
    "perceiver.mlp_width": ("encoder.blocks.0.local.0.experts.experts.0.w1.weight", 0),
    "perceiver.positions": ("decoder.table", 0),
}


def other_sizes(network: MT3Network, checkpoint: Checkpoint, renames: Renames) -> str:
    """Returns a sentence on the sizes in which a file differs from `network`; empty if none is known to."""
    shapes = _shapes(checkpoint, renames)
    found = _sizes(shapes)
    known = {
        f"{section}.{name}": size for section, sizes in asdict(network).items() for name, size in (sizes or {}).items()
    }
    differing = [
        f"model.network.{name}={size} (not {known[name]})"
        for name, size in found.items()
        if name in known and known[name] != size
    ]
    return f". By its shapes the file has {', '.join(differing)}" if differing else ""


def _shapes(checkpoint: Checkpoint, renames: Renames) -> dict[str, Sequence[int]]:
    """Returns the shapes in a file by the model's names."""
    if checkpoint.own_names:
        return {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    found: dict[str, Sequence[int]] = {}
    for stored in checkpoint.tensors:
        matches = ((re.fullmatch(pattern, stored), ours) for pattern, ours in renames)
        for match, ours in matches:
            if match is not None:
                found[match.expand(ours)] = checkpoint.tensors[stored].shape
                break
    return found


def _sizes(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    found = {name: shapes[tensor][axis] for name, (tensor, axis) in _AXES.items() if tensor in shapes}
    for name, pattern in _COUNTS.items():
        layers = [int(match[1]) for match in (re.fullmatch(pattern, each) for each in shapes) if match]
        if layers:
            found[name] = max(layers) + 1
    if "perceiver.latents" in found and "project.weight" in shapes:
        found["perceiver.channels"] = (
            found["perceiver.latents"] * found["perceiver.width"] // shapes["project.weight"][1]
        )
    return found
