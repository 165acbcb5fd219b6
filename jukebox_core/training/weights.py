"""Weights of a trained module in half precision, as they are distributed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.errors import TrainingError
from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.runtime.finite import first_not_finite
from jukebox_core.training.devices import gathered

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from torch import Tensor, nn


def half_weights(module: nn.Module, exact: Collection[str] = ()) -> dict[str, Tensor]:
    """Returns the module's tensors by name: floating point as float16, shared ones once, the others as they are.

    Tensors named in `exact` keep their precision.

    Sharded tensors are gathered: all processes must call this together, and each receives full tensors.

    Raises:
        TrainingError: a weight is not finite, or beyond the range of half precision.
    """
    seen: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        seen.setdefault(id(tensor), name)
    state = {name: gathered(tensor) for name, tensor in module.state_dict().items() if name in seen.values()}
    halves = {
        name: tensor.half() if tensor.is_floating_point() and name not in exact else tensor
        for name, tensor in state.items()
    }
    bad = first_not_finite(halves)
    if bad is not None:
        raise TrainingError(
            f"{bad} reaches {float(state[bad].abs().max()):.3g}, but weights are exported in half precision, which "
            "ends at 65,504; train with a lower learning rate or more weight decay"
        )
    return halves


def write_half_weights(module: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes `half_weights` of a module that is not sharded, atomically; TrainingError as there."""
    save_safetensors(half_weights(module), path, metadata)
