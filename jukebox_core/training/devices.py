"""Processes, precision and sharding of a training, by Lightning Fabric."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import distributed
from torch.utils.checkpoint import checkpoint

from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from jukebox_core.training.config import DevicesConfig

_BFLOAT16_PRODUCTS = ("avx512_bf16", "amx_bf16", "bf16")  # instructions of x86 and of ARM


def start_fabric(devices: DevicesConfig, precision: str, units: tuple[type[nn.Module], ...] = ()) -> Fabric:
    """Returns the launched Fabric of a training; several processes must have been started by torchrun.

    Args:
        devices: number and kind.
        precision: of the computation, as Fabric names it, or ``auto``.
        units: the classes of modules that are sharded one by one with fsdp.

    Raises:
        ConfigError: Fabric is not installed, or several processes are configured and torchrun did not start this one.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:
        need = "training needs lightning-fabric and tensorboard"
        raise ConfigError(f"{need}; pip install 'jukebox-pipelines[train]'") from None

    processes = devices.world_size
    if processes > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise ConfigError(
            f"{processes} processes are asked for, but this is a single one; start it as "
            f"`torchrun --nproc-per-node {devices.devices} -m pipelines.cli.main train ...`"
        )
    strategy: Any = "ddp" if devices.strategy == "auto" and processes > 1 else devices.strategy
    if strategy == "fsdp":
        strategy = _fsdp_strategy(units, processes)
    fabric = Fabric(
        accelerator=devices.accelerator,
        strategy=strategy,
        devices=devices.devices,
        num_nodes=devices.num_nodes,
        precision=compute_precision(precision, devices.accelerator),  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def compute_precision(precision: str, accelerator: str = "auto") -> str:
    """Returns what ``auto`` stands for on this machine: bf16-mixed if the device multiplies bfloat16, else 32-true."""
    if precision != "auto":
        return precision
    if accelerator != "cpu" and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator != "cpu" and torch.backends.mps.is_available():
        fast = False
    else:
        found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch has none
        fast = any(found.get(name) for name in _BFLOAT16_PRODUCTS)
    return "bf16-mixed" if fast else "32-true"


def _fsdp_strategy(units: tuple[type[nn.Module], ...], processes: int) -> Any:
    """Returns the strategy by which every process holds a shard of each parameter (torch's ``fully_shard``)."""
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
    from torch.distributed.fsdp import fully_shard

    def shard(module: nn.Module, mesh: Any) -> nn.Module:
        for part in module.modules():
            if isinstance(part, units):
                fully_shard(part, mesh=mesh["data_parallel"])
        fully_shard(module, mesh=mesh["data_parallel"])
        return module

    return ModelParallelStrategy(
        shard, data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False
    )


def is_sharded(tensor: Tensor) -> bool:
    """Returns whether each process holds only a shard of the tensor (fsdp)."""
    return hasattr(tensor, "full_tensor")


def gathered(tensor: Tensor) -> Tensor:
    """Returns the full tensor; a sharded one is gathered, which all processes must do together."""
    return cast("Any", tensor).full_tensor() if is_sharded(tensor) else tensor


def local_part(tensor: Tensor) -> Tensor:
    """Returns the part of a tensor that this process holds: a shard, or all of it."""
    return cast("Any", tensor).to_local() if is_sharded(tensor) else tensor


def averaged(value: Tensor) -> Tensor:
    """Returns the mean of a tensor over all processes of the training, which must call this together.

    A loss that is divided by the mean of a count, and not by each process's own, has the gradient of one large batch.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def copy_gathered(target: Tensor, source: Tensor) -> None:
    """Copies a full tensor into `target`, full or sharded, in place; all processes must do so together."""
    if is_sharded(target):
        from torch.distributed.tensor import distribute_tensor

        sharded = cast("Any", target)
        source = distribute_tensor(source.to(target.device), sharded.device_mesh, sharded.placements)
    target.copy_(source)


def enable_gradient_checkpointing(module: nn.Module, units: tuple[type[nn.Module], ...]) -> None:
    """Makes every submodule of a class in `units` recompute its activations in the backward pass, in place."""
    for part in module.modules():
        if isinstance(part, units):
            part.forward = _checkpointed(part.forward)


def _checkpointed(forward: Any) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        return checkpoint(forward, *arguments, use_reentrant=False, **named)

    return call
