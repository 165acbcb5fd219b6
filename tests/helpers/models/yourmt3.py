"""The golden model of YourMT3: its sizes, and a checkpoint whose weights come from a formula."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from jukebox_core.base.structuring import to_plain
from jukebox_core.families.mt3.config import (
    LinearFrontEndConfig,
    MT3Network,
    PerceiverConfig,
    TransformerConfig,
    VocabularyConfig,
    event_count,
)
from jukebox_core.families.mt3.model.transformer import MT3

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

SPECIAL = 3
ENCODER_HEADS = 8  # not in the configuration of upstream


def network(data: dict[str, Any]) -> MT3Network:
    """The sizes in a ``yourmt3.json``."""
    audio, model = data["audio_cfg"], data["model_cfg"]
    encoder, decoder = model["encoder"]["perceiver-tf"], model["decoder"]["multi-t5"]
    shapes = dict(map(tuple, data["state_dict_keys"]))
    of_layer = "decoder.decoder.block.0.layer"
    without_shifts = event_count(VocabularyConfig(max_shift_steps=1)) - 1 + SPECIAL
    return MT3Network(
        front_end=LinearFrontEndConfig(
            sample_rate=audio["sample_rate"],
            hop=audio["hop_length"],
            fft=audio["n_fft"],
            segment_samples=audio["input_frames"],
        ),
        vocabulary=VocabularyConfig(max_shift_steps=data["num_tokens"] - without_shifts),
        transformer=TransformerConfig(
            width=decoder["d_model"],
            heads=decoder["num_heads"],
            head_width=shapes[f"{of_layer}.0.SelfAttention.q.weight"][0] // decoder["num_heads"],
            mlp_width=decoder["d_model"] * decoder["ff_widening_factor"],
            encoder_depth=0,
            decoder_depth=decoder["num_layers"],
            embeddings=data["num_tokens"],
            max_tokens=data["max_token_length_in_generate"] + 1,
        ),
        perceiver=PerceiverConfig(
            convolutions=model["conv_out_channels"],
            latents=encoder["num_latents"],
            width=encoder["d_latent"],
            heads=ENCODER_HEADS,
            blocks=encoder["num_blocks"],
            local_depth=encoder["num_local_transformers_per_block"],
            temporal_depth=encoder["num_temporal_transformers_per_block"],
            experts=encoder["moe_num_experts"],
            experts_used=encoder["moe_topk"],
            mlp_width=encoder["d_latent"] * encoder["ff_widening_factor"],
            channels=decoder["num_channels"],
            positions=decoder["num_max_positions"],
        ),
    )


def weights(data: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict of upstream: parameters by the formula in the README of the golden vectors, buffers as made."""
    kinds = {name: (index, kind) for index, name, _, kind in data["parameter_table"]}
    made = MT3(network(data)).encoder
    frequencies = {"sca": "cross", "spectral": "cross", "latent": "local", "local": "local", "temporal": "temporal"}
    found: dict[str, Tensor] = {}
    for name, shape in data["state_dict_keys"]:
        if name in kinds:
            found[name] = _by_formula(*kinds[name], shape, data["seed_added_to_phase"])
        elif name.endswith("freqs"):
            [which] = {mine for theirs, mine in frequencies.items() if theirs in name}
            found[name] = getattr(made, f"{which}_frequencies").clone()
        elif name.endswith("window"):
            found[name] = torch.hann_window(shape[0])
        else:
            [value] = [value for end, value in _STATISTICS.items() if name.endswith(end)]
            found[name] = torch.full(shape, value) if shape else torch.tensor(int(value))
    return found


_STATISTICS = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}  # of batches, initial


def _by_formula(index: int, kind: str, shape: list[int], phase: int) -> Tensor:
    count = int(np.prod(shape))
    waves = np.sin(12.9898 * np.arange(count) + 78.233 * index + phase)
    scaled = {
        "matrix": 1.7 * waves / np.sqrt(count / shape[0]),
        "norm": 1 + 0.2 * waves,
        "bias": 0.1 * waves,
        "table": 1.4 * waves,
    }[kind]
    return torch.from_numpy(scaled.reshape(shape).astype(np.float32))


def write_checkpoint(path: Path, state: dict[str, Tensor], prefix: str = "") -> Path:
    """A file of Lightning, whose settings hold an object of a class that is not on this machine."""
    module = ModuleType("utils.task_manager")
    kind = type("TaskManager", (), {"__module__": module.__name__})
    module.TaskManager = kind  # type: ignore[attr-defined]
    parts = {"utils": ModuleType("utils"), module.__name__: module}
    sys.modules.update(parts)
    try:
        settings = {"model_cfg": {"num_channels": 13}, "task_manager": kind()}
        content = {"epoch": 3, "hyper_parameters": settings, "optimizer_states": [{"lr": torch.zeros(2)}]}
        torch.save({**content, "state_dict": {prefix + name: each for name, each in state.items()}}, path)
    finally:
        for name in parts:
            del sys.modules[name]
    return path


def write_preset(path: Path, sizes: MT3Network, checkpoint: Path) -> Path:
    """A preset of a model of these sizes, whose file is read where it is."""
    data = {
        "defaults": ["yourmt3"],
        "name": "tiny_yourmt3",
        "network": to_plain(sizes),
        "files": {
            "weight_sources": [str(checkpoint.parent)],
            "weights": {"transcriber": {"path": checkpoint.name, "bytes": None, "sha256": None}},
            "licence": "none, it is made by a formula",
            "terms": None,
        },
    }
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path
