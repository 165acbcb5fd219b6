"""Transformers in smaller precisions: kernels with packed weights on the CPU, plain torch elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.errors import ConfigError, DeviceError
from jukebox_core.families.vampnet.model.lora import LoRALinear
from jukebox_core.runtime.allocator import release_freed_memory
from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.matrices import PRECISIONS, Arena, PackedProjection, packed_bytes
from jukebox_core.runtime.quantise import Int8Projection, quantise_per_channel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from jukebox_core.families.vampnet.model.transformer import VampTransformer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


def check_parity(dtype: str, *, parity: bool) -> None:
    """Checks that upstream's results are asked for in upstream's precision.

    Raises:
        ConfigError: they are not.
    """
    if parity and dtype not in ("auto", "float32"):
        raise ConfigError(f"sampling.parity computes in float32, not in {dtype}: set hardware.dtype=float32")


@torch.no_grad()
def converted(model: VampTransformer, dtype: str) -> VampTransformer:
    """Returns the model, changed in place to compute in `dtype`; its low-rank updates must be merged.

    On the CPU the projections of the layers have packed weights of that precision, and all else stays float32; int8
    also rounds what they read, for each row. Without the kernels, and on other devices, int8 weights are converted at
    each use; bfloat16 is then the precision of all of the model.

    Args:
        model: in float32, on its device.
        dtype: float32, bfloat16 or int8.
    """
    stored = DTYPES[dtype]
    if stored is torch.float32:
        return model
    if model.positions.weight.device.type == "cpu" and _packs(model, stored):
        with release_freed_memory():
            _pack(model, stored)
    elif stored is torch.int8:
        for parent, name, linear in list(_projections(model)):
            zeros = torch.zeros(len(linear.weight), device=linear.weight.device)
            setattr(parent, name, Int8Projection(linear.weight.t(), zeros))
    else:
        model.bfloat16()
    return model


def _packs(model: VampTransformer, dtype: torch.dtype) -> bool:
    """Returns whether there are kernels here, and for these sizes."""
    try:
        library()
    except DeviceError:
        return False
    return all(linear.weight.shape[1] % PRECISIONS[dtype][1] == 0 for _, _, linear in _projections(model))


def _pack(model: VampTransformer, dtype: torch.dtype) -> None:
    places = list(_projections(model))
    arena = Arena(sum(packed_bytes(linear.weight.t().shape, dtype) for _, _, linear in places))
    while places:  # each original weight is freed as soon as it is packed
        parent, name, linear = places.pop(0)
        weight_IO, scale_O = linear.weight.t(), None
        if dtype is torch.int8:
            weight_IO, scale_O = quantise_per_channel(weight_IO)
        zeros = torch.zeros(weight_IO.shape[1])
        setattr(parent, name, PackedProjection(weight_IO.to(dtype).contiguous(), zeros, scale_O, arena))
        del linear, weight_IO


def _projections(model: VampTransformer) -> Iterator[tuple[nn.Module, str, LoRALinear]]:
    """Yields the projections of the layers as (parent, name, module)."""
    for parent in model.layers.modules():
        for name, child in [*parent.named_children()]:
            if isinstance(child, LoRALinear):
                assert child.lora_A is None, "updates are merged"
                yield parent, name, child
