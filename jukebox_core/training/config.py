"""How a model is trained, as frozen records that check themselves. Imports no torch.

`conf/training/*.yaml` mirrors these records one to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jukebox_core.errors import ConfigError


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimiserConfig:
    """Adam as the released models were trained with it (golden README 2.2)."""

    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip: float | None = 1.0  # gradients are scaled down to this norm; null: never

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("learning_rate", "epsilon"):
            value = getattr(self, name)
            _require(value > 0, f"{name} is {value}; it must be positive")
        _require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}; it cannot be negative")
        _require(all(0 <= beta < 1 for beta in self.betas), f"betas are {self.betas}; each must be from 0 to below 1")
        _require(self.clip is None or self.clip > 0, f"clip is {self.clip}; it must be positive, or null")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """The learning rate's course: a linear warm-up, then a fall in steps or along a line; counted in steps."""

    warmup: int = 100
    kind: Literal["steps", "linear"] = "steps"
    start: int = 0  # where the line begins to fall
    decay: int = 10_000_000_000  # steps between two falls, or until the line is at 0
    gamma: float = 1.0  # factor of each fall

    def __post_init__(self) -> None:
        """Checks ranges."""
        _require(self.kind in ("steps", "linear"), f"kind is {self.kind!r}; choose 'steps' or 'linear'")
        _require(
            self.warmup >= 0 and self.start >= 0, f"warmup {self.warmup}, start {self.start}: neither may be negative"
        )
        _require(self.decay > 0 and self.gamma > 0, f"decay {self.decay} and gamma {self.gamma} must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long and on what a part is trained, and how often it is looked at."""

    steps: int
    batch: int  # samples of one step on one device, before accumulation
    accumulate: int = 1  # batches whose gradients are summed in one step
    seed: int = 0
    average: float | None = 0.99  # share of the averaged weights that a step keeps; null: the last weights count
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"] = "32-true"
    checkpointing: bool = False  # recompute activations in the backward pass: less memory, a third more time
    workers: int = 0  # processes that read and prepare data; 0: the trainer does it itself
    log_every: int = 20  # steps
    save_every: int = 500
    check_every: int = 500  # losses on held-out data, and samples to look at and listen to
    check_batches: int = 4

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("steps", "batch", "accumulate", "log_every", "save_every", "check_every"):
            value = getattr(self, name)
            _require(value > 0, f"{name} is {value}; it must be positive")
        for name in ("workers", "check_batches"):
            value = getattr(self, name)
            _require(value >= 0, f"{name} is {value}; it cannot be negative")
        _require(self.average is None or 0 < self.average < 1, f"average is {self.average}; choose 0 to 1, or null")


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How something is trained: for how long, by which optimiser, at which rates."""

    loop: LoopConfig
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class DevicesConfig:
    """What a part is trained on."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"  # ddp: a whole model a device; fsdp: a share of one
    devices: int = 1  # on this machine; torchrun starts them
    nodes: int = 1

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("devices", "nodes"):
            value = getattr(self, name)
            _require(value > 0, f"{name} is {value}; it must be positive")
        _require(
            self.strategy != "fsdp" or self.devices * self.nodes > 1,
            "strategy is 'fsdp', but there is one device; set devices to the number of them, or strategy to auto",
        )
