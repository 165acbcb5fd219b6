"""Memory of a training, estimated from one step on fake tensors: shapes without values."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from jukebox_core.training.devices import compute_precision, enable_gradient_checkpointing

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from jukebox_core.training.config import LoopConfig

_MAX_COUNTED = 16  # items of a batch that are counted; memory of larger batches is extrapolated
_WORKING_BYTES = 60_000_000  # kernels and the allocator, measured on a CPU


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Estimated bytes of a training on its device, where each process holds a full replica."""

    weights: int
    optimiser: int  # two moments of each parameter
    ema: int
    step: int  # peak of gradients and activations
    working: int = _WORKING_BYTES

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.weights + self.optimiser + self.ema + self.step + self.working


def training_memory(
    build: Callable[[int], tuple[nn.Module, Callable[[], Tensor]]], units: tuple[type[nn.Module], ...], loop: LoopConfig
) -> TrainingMemory:
    """Returns the estimated memory of training a module.

    Args:
        build: returns the module, and a function that returns the loss of a batch of the given size; it is called
            under torch's `FakeTensorMode`.
        units: the modules that recompute their activations, with `loop.gradient_checkpointing`.
        loop: batch size, precision and moving average.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes seconds to import

    counted = min(loop.batch_size, _MAX_COUNTED)
    with FakeTensorMode(), LiveBytes() as live:
        module, loss = build(counted)
        precision = compute_precision(loop.precision)
        if precision == "bf16-true":
            module.to(torch.bfloat16)
        if loop.gradient_checkpointing:
            enable_gradient_checkpointing(module, units)
        parameters = sum(tensor.nbytes for tensor in module.parameters())
        weights = parameters + sum(tensor.nbytes for tensor in module.buffers())
        live.peak = before = live.now
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != "32-true"):
            total = loss()
        total.backward()  # type: ignore[no-untyped-call]
    batch = (live.peak - before) * loop.batch_size // counted
    update = 3 * parameters  # the gradients, and two temporaries of the optimiser
    return TrainingMemory(
        weights=weights,
        optimiser=2 * parameters,
        ema=parameters if loop.ema_decay is not None else 0,
        step=max(batch, update),
    )


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all live tensors, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Callable[..., Any], _types: Any, arguments: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        for each in tree_iter(result):
            if isinstance(each, Tensor):
                self._count(each)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
