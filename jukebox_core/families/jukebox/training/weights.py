"""From a trained module to the file that is shipped, in half precision: a third of the bytes and nothing to hear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.training.devices import whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn


def halves(module: nn.Module) -> dict[str, Tensor]:
    """Returns the module's floating-point tensors in half precision, each once, and the others as they are.

    Where processes share the module, all must call this, and each is given whole tensors.
    """
    seen: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        seen.setdefault(id(tensor), name)
    state = {name: whole(tensor) for name, tensor in module.state_dict().items() if name in seen.values()}
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def write_half(module: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes `halves` of a module that one process holds, whole or not at all."""
    save_safetensors(halves(module), path, metadata)


def round_to_half(module: nn.Module) -> None:
    """Rounds the module's tensors as `write_half` writes them, so that what is measured is what is shipped."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
