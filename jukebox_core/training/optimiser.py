"""Adam, the learning rate schedule, and the moving average of the weights (docs/upstream.md, Training)."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from jukebox_core.errors import ConfigError
from jukebox_core.training.devices import copy_gathered, gathered, is_sharded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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


def make_optimiser(
    parameters: Iterable[nn.Parameter], config: OptimiserConfig, matrices: Sequence[nn.Parameter] = ()
) -> Optimizer:
    """Returns the optimiser that the settings name.

    Args:
        parameters: all that are trained.
        config: the settings.
        matrices: those of layers among them, which Muon can train. If there is nothing else, as with low-rank
            updates, Adam trains them: such updates have few singular values.

    Raises:
        ConfigError: Muon is asked for, and parameters are sharded.
    """
    parameters = list(parameters)
    if config.muon_learning_rate is not None and len(parameters) > len(matrices):
        if any(is_sharded(each) for each in matrices):
            raise ConfigError(
                f"optimiser.muon_learning_rate is {config.muon_learning_rate}, but Muon needs whole matrices, which "
                "strategy 'fsdp' shards; choose strategy ddp, or muon_learning_rate null"
            )
        return Muon(parameters, matrices, config)
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
                self._update_group(parameters, group)
        return loss

    def _update_group(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        self._update(parameters, group)

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


class Muon(UpstreamAdam):
    """Adam, and for the matrices of layers Muon: momentum whose singular values are made equal (Jordan et al. 2024).

    torch's Muon computes in bfloat16 and one matrix at a time, which takes a CPU several times as long as the rest of a
    step of a small model; here matrices of one shape are computed together, in the precision of the weights.

    Args:
        parameters: of which Adam updates all that are not among `matrices`.
        matrices: of layers; two-dimensional.
        config: of both.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], matrices: Iterable[nn.Parameter], config: OptimiserConfig
    ) -> None:
        layers = list(matrices)
        known = {id(each) for each in layers}
        super().__init__((each for each in parameters if id(each) not in known), config)
        # The loop sets the same rate for all groups.
        assert config.muon_learning_rate is not None, "checked by who makes it"
        scale = config.muon_learning_rate / config.learning_rate
        self.add_param_group({"params": layers, "muon_scale": scale, "momentum": config.muon_momentum})

    def _update_group(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        if "muon_scale" not in group:
            super()._update_group(parameters, group)
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["first"] = torch.zeros_like(parameter)
        gradients = [cast("Tensor", parameter.grad) for parameter in parameters]
        first: list[Tensor] = [self.state[parameter]["first"] for parameter in parameters]
        torch._foreach_lerp_(first, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, first, group["momentum"])
        # Matrices of one shape at once; tall ones transposed, which saves time.
        shapes: dict[tuple[int, ...], list[int]] = {}
        for place, update in enumerate(updates):
            shapes.setdefault(tuple(update.shape), []).append(place)
        for (rows, columns), places in shapes.items():
            stacked = torch.stack([updates[place] for place in places])
            tall = rows > columns
            equal = orthogonalised(stacked.mT if tall else stacked)
            rate = group["lr"] * group["muon_scale"] * math.sqrt(max(1.0, rows / columns))
            for place, update in zip(places, equal.mT if tall else equal, strict=True):
                parameters[place].add_(update, alpha=-rate)


_QUINTIC = (3.4445, -4.7750, 2.0315)  # coefficients of Jordan et al., which bring small singular values up fast
_ITERATIONS = 5


def orthogonalised(matrices_NRC: Tensor) -> Tensor:
    """Returns matrices [N, R, C], R <= C, with the same singular vectors and singular values between 0.7 and 1.2."""
    a, b, c = _QUINTIC
    x: Tensor = matrices_NRC / matrices_NRC.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + torch.baddbmm(square, square, square, beta=b, alpha=c) @ x
    return x


class ExponentialMovingAverage:
    """Exponential moving average of a module's trained parameters: evaluated and exported in place of the last ones.

    Args:
        module: its parameters that require gradients are averaged.
        decay: share of the average that an update keeps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self.parameters = list(trained.values())
        self.averages = {name: parameter.detach().clone() for name, parameter in trained.items()}
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Averages the current parameters in; during the first updates with a smaller decay."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        current = [parameter.detach() for parameter in self.parameters]
        torch._foreach_lerp_(list(self.averages.values()), current, 1 - decay)

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
        for parameter, average in zip(self.parameters, self.averages.values(), strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint, with full tensors by name; all processes must call it together."""
        return {"averages": {name: gathered(each) for name, each in self.averages.items()}, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned, or, in the order of parameters, that of version 0.16.

        Raises:
            KeyError: an average is missing, or one of another module is there.
            ValueError: there are more or fewer averages than parameters, or one has another shape.
        """
        stored = state["averages"]
        if isinstance(stored, list):  # as checkpoints before names had them
            stored = dict(zip(self.averages, stored, strict=True))
        if set(stored) != set(self.averages):
            raise KeyError(f"averages of {sorted(set(stored) ^ set(self.averages))[:3]}")
        for name, average in self.averages.items():
            if stored[name].shape != average.shape:
                raise ValueError(f"the average of {name} has shape {tuple(stored[name].shape)}")
        self.updates = int(state["updates"])
        for name, average in self.averages.items():
            copy_gathered(average, stored[name])
