"""Weights of a trained module in half precision, as they are distributed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.training.devices import gathered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn


def half_weights(module: nn.Module) -> dict[str, Tensor]:
    """Returns the module's tensors by name: floating point as float16, shared ones once, the others as they are.

    Sharded tensors are gathered: all processes must call this together, and each receives full tensors.
    """
    seen: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        seen.setdefault(id(tensor), name)
    state = {name: gathered(tensor) for name, tensor in module.state_dict().items() if name in seen.values()}
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def write_half_weights(module: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes `half_weights` of a module that is not sharded, atomically."""
    save_safetensors(half_weights(module), path, metadata)
