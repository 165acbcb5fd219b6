"""How much memory training takes, counted on a step that is taken without any: shapes, but no numbers."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from jukebox_core.training.devices import recompute

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from jukebox_core.training.config import LoopConfig

_COUNTED = 16  # items of a batch that are counted; what more of them take follows
_WORKING_BYTES = 60_000_000  # what kernels and the allocator keep for themselves, as measured on a CPU


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes that a training takes on its device, about, where each process holds a whole model."""

    weights: int
    optimiser: int  # two moments for each parameter
    average: int  # of the weights
    step: int  # gradients and activations of a batch, at their most
    working: int = _WORKING_BYTES

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.weights + self.optimiser + self.average + self.step + self.working


def training_memory(
    build: Callable[[int], tuple[nn.Module, Callable[[], Tensor]]], units: tuple[type[nn.Module], ...], loop: LoopConfig
) -> TrainingMemory:
    """Returns what training a module takes.

    Args:
        build: makes the module, and a function that gives the loss of a batch of so many; called where tensors have
            no numbers.
        units: the parts that are recomputed as a whole, if the loop says so.
        loop: batch, precision and average.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes seconds to import

    counted = min(loop.batch, _COUNTED)
    with FakeTensorMode(), _Held() as held:
        module, loss = build(counted)
        if loop.precision == "bf16-true":
            module.to(torch.bfloat16)
        if loop.checkpointing:
            recompute(module, units)
        parameters = sum(tensor.nbytes for tensor in module.parameters())
        weights = parameters + sum(tensor.nbytes for tensor in module.buffers())
        held.peak = before = held.now
        with torch.autocast("cpu", torch.bfloat16, enabled=loop.precision != "32-true"):
            total = loss()
        total.backward()  # type: ignore[no-untyped-call]
    return TrainingMemory(
        weights=weights,
        optimiser=2 * parameters,
        average=parameters if loop.average is not None else 0,
        step=max(
            (held.peak - before) * loop.batch // counted, 3 * parameters
        ),  # an update holds gradients, and twice as much for a moment
    )


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are alive."""

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
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
