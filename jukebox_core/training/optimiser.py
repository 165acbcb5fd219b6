"""Adam, the learning rate schedule, and the moving average of the weights (docs/upstream.md, Training)."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from jukebox_core.training.devices import copy_gathered, gathered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn

    from jukebox_core.training.config import OptimiserConfig, ScheduleConfig


def lr_factor(step: int, schedule: ScheduleConfig) -> float:
    """Returns the factor of the learning rate at `step`, counted from 0.

    With a warm-up the first step's is 0, but with `noam`, whose step n = `step` + 1 has min(n / w, sqrt(w / n)).
    """
    if schedule.kind == "noam":
        number = step + 1
        return min(number / schedule.warmup_steps, math.sqrt(schedule.warmup_steps / number))
    warmup = min(1.0, step / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    if schedule.kind == "linear":
        return warmup * max(0.0, 1.0 - max(0, step - schedule.decay_start) / schedule.decay_steps)
    return warmup * math.pow(schedule.gamma, step // schedule.decay_steps)


def make_optimiser(parameters: Iterable[nn.Parameter], config: OptimiserConfig) -> Optimizer:
    """Returns the optimiser that the settings name."""
    if config.kind == "upstream_adam":
        return UpstreamAdam(parameters, config)
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )


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
        """Updates every parameter that has a gradient; returns the result of `closure`, which is called first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
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
        # 1) moments
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        # 2) m / (sqrt(v) + epsilon) + decay * p
        update: list[Tensor] | tuple[Tensor, ...] = torch._foreach_sqrt(second)
        torch._foreach_add_(update, group["eps"])
        update = torch._foreach_div(first, update)
        if group["weight_decay"]:
            torch._foreach_add_(update, list(parameters), alpha=group["weight_decay"])
        # 3) the rate with bias correction; parameters of one group have the same number of steps
        taken = int(states[0]["step"])
        rate = group["lr"] * math.sqrt(1 - beta2**taken) / (1 - beta1**taken)
        torch._foreach_add_(list(parameters), update, alpha=-rate)


class ExponentialMovingAverage:
    """Exponential moving average of a module's trained parameters: evaluated and exported in place of the last ones.

    Args:
        module: its parameters that require gradients are averaged.
        decay: share of the average that an update keeps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Averages the current parameters in; during the first updates with a smaller decay."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        torch._foreach_lerp_(self.averages, [parameter.detach() for parameter in self.parameters], 1 - decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Makes the module use the averages within the block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges the module's parameters and the averages, in place."""
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint, with full tensors; all processes must call it together."""
        return {"averages": [gathered(average) for average in self.averages], "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self.updates = int(state["updates"])
        tensors: list[Tensor] = state["averages"]
        for average, stored in zip(self.averages, tensors, strict=True):
            copy_gathered(average, stored)
