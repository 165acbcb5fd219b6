"""From a trained module to the file that is shipped, in half precision: a third of the bytes and nothing to hear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.weights.checkpoint import save_safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn


def write_half(module: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes the module's floating-point tensors in half precision, each once, whole or not at all."""
    seen: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        seen.setdefault(id(tensor), name)
    state = module.state_dict()
    halves = {name: state[name].half() if state[name].is_floating_point() else state[name] for name in seen.values()}
    save_safetensors(halves, path, metadata)


def round_to_half(module: nn.Module) -> None:
    """Rounds the module's tensors as `write_half` writes them, so that what is measured is what is shipped."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
