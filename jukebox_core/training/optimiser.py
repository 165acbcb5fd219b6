"""The optimiser, the course of its learning rate, and averaged weights (golden README 2.2)."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from jukebox_core.training.devices import copy_whole, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn

    from jukebox_core.training.config import OptimiserConfig, ScheduleConfig


def rate_factor(step: int, schedule: ScheduleConfig) -> float:
    """Returns what the learning rate is multiplied by at `step`, counted from 0: the first step's is 0 in a warm-up."""
    warm = min(1.0, step / schedule.warmup) if schedule.warmup else 1.0
    if schedule.kind == "linear":
        return warm * max(0.0, 1.0 - max(0, step - schedule.start) / schedule.decay)
    return warm * math.pow(schedule.gamma, step // schedule.decay)


class UpstreamAdam(Optimizer):
    """Adam whose epsilon is added before bias correction and whose weight decay is added inside the update.

    ``p -= rate_t * (m / (sqrt(v) + epsilon) + decay * p)`` with ``rate_t = rate * sqrt(1 - b2^t) / (1 - b1^t)``: as
    the released models were trained, and not as torch's Adam or AdamW compute it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], config: OptimiserConfig) -> None:
        defaults = {
            "lr": config.learning_rate,
            "betas": config.betas,
            "eps": config.epsilon,
            "weight_decay": config.weight_decay,
        }
        super().__init__(parameters, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Moves every parameter that has a gradient; returns what `closure` does, which is called first if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._move(parameters, group)
        return loss

    def _move(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                moments = {"first": torch.zeros_like(parameter), "second": torch.zeros_like(parameter)}
                self.state[parameter].update(step=torch.zeros(()), **moments)
        states = [self.state[parameter] for parameter in parameters]
        for state in states:
            state["step"] += 1
        beta1, beta2 = group["betas"]
        gradients = [cast("Tensor", parameter.grad) for parameter in parameters]
        first: list[Tensor] = [state["first"] for state in states]
        second: list[Tensor] = [state["second"] for state in states]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        update: list[Tensor] | tuple[Tensor, ...] = torch._foreach_sqrt(second)
        torch._foreach_add_(update, group["eps"])
        update = torch._foreach_div(first, update)
        if group["weight_decay"]:
            torch._foreach_add_(update, list(parameters), alpha=group["weight_decay"])
        taken = int(states[0]["step"])  # parameters of one group start together
        rate = group["lr"] * math.sqrt(1 - beta2**taken) / (1 - beta1**taken)
        torch._foreach_add_(list(parameters), update, alpha=-rate)


class WeightAverage:
    """The exponential moving average of a module's parameters: what is evaluated and shipped in place of the last ones.

    Args:
        module: its parameters are followed, those that are trained.
        keep: the share of the average that an update keeps.
    """

    def __init__(self, module: nn.Module, keep: float) -> None:
        self.keep = keep
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Takes the parameters as they are now into the average; early on it follows them faster."""
        self.updates += 1
        keep = min(self.keep, self.updates / (self.updates + 10))
        torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.parameters], 1 - keep)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Has the module use the averages within the block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges the module's parameters and the averages."""
        for parameter, average in zip(self.parameters, self.average, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """Returns what `load_state_dict` takes."""
        return {"average": [whole(average) for average in self.average], "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a stored state."""
        self.updates = int(state["updates"])
        tensors: list[Tensor] = state["average"]
        for average, stored in zip(self.average, tensors, strict=True):
            copy_whole(average, stored)
