"""Where a training runs: processes, precision and how a model is spread over them, by Lightning Fabric."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from torch.utils.checkpoint import checkpoint

from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from jukebox_core.training.config import DevicesConfig


def start_fabric(devices: DevicesConfig, precision: str, units: tuple[type[nn.Module], ...] = ()) -> Fabric:
    """Returns the fabric that training is written for; several processes must have been started by torchrun.

    Args:
        devices: what to run on.
        precision: of the computation, in Fabric's words.
        units: the modules that are kept, sent and recomputed as a whole where a model is shared out (fsdp).

    Raises:
        ConfigError: several processes are asked for, and torchrun did not start this one.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:
        need = "training needs lightning-fabric and tensorboard"
        raise ConfigError(f"{need}; pip install 'jukebox-pipelines[train]'") from None

    processes = devices.devices * devices.nodes
    if processes > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise ConfigError(
            f"{processes} processes are asked for, but this is a single one; start it as "
            f"`torchrun --nproc-per-node {devices.devices} -m pipelines.cli.main train ...`"
        )
    strategy: Any = "ddp" if devices.strategy == "auto" and processes > 1 else devices.strategy
    if strategy == "fsdp":
        strategy = _sharing(units, processes)
    fabric = Fabric(
        accelerator=devices.accelerator,
        strategy=strategy,
        devices=devices.devices,
        num_nodes=devices.nodes,
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _sharing(units: tuple[type[nn.Module], ...], processes: int) -> Any:
    """Returns the strategy by which every process holds a share of each parameter (torch's ``fully_shard``)."""
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
    from torch.distributed.fsdp import fully_shard

    def share(module: nn.Module, mesh: Any) -> nn.Module:
        for part in module.modules():
            if isinstance(part, units):
                fully_shard(part, mesh=mesh["data_parallel"])
        fully_shard(module, mesh=mesh["data_parallel"])
        return module

    return ModelParallelStrategy(
        share, data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False
    )


def is_shared(tensor: Tensor) -> bool:
    """Whether each process holds a share of the tensor only (fsdp)."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Returns the tensor as it is on one device; one that processes share is put together, and all must ask for it."""
    return cast("Any", tensor).full_tensor() if is_shared(tensor) else tensor


def copy_whole(target: Tensor, source: Tensor) -> None:
    """Sets a tensor, whole or shared, to the values of a whole one; all processes must do so."""
    if is_shared(target):
        from torch.distributed.tensor import distribute_tensor

        shared = cast("Any", target)
        source = distribute_tensor(source.to(target.device), shared.device_mesh, shared.placements)
    target.copy_(source)


def recompute(module: nn.Module, units: tuple[type[nn.Module], ...]) -> None:
    """Has every part of `module` that is one of `units` forget its activations and compute them again going back."""
    for part in module.modules():
        if isinstance(part, units):
            part.forward = _recomputed(part.forward)


def _recomputed(forward: Any) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        return checkpoint(forward, *arguments, use_reentrant=False, **named)

    return call
