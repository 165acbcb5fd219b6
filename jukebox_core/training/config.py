"""Hyperparameters of training, as frozen records that check themselves. Imports no torch.

`conf/training/*.yaml` mirrors these records one to one. Names are those of Hugging Face's `TrainingArguments` and of
Lightning Fabric where they have one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from jukebox_core.base.checks import require, require_positive
from jukebox_core.base.structuring import to_plain


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimiserConfig:
    """Adam as Jukebox was trained with it (docs/upstream.md, Training), or AdamW."""

    learning_rate: float = 3e-4  # after the warm-up
    kind: Literal["upstream_adam", "adamw"] = "upstream_adam"  # adamw: torch's (Loshchilov and Hutter 2019)
    betas: tuple[float, float] = (0.9, 0.999)  # decay rates of the moments
    epsilon: float = 1e-8  # added to the denominator
    weight_decay: float = 0.0  # decoupled from the gradient in adamw
    max_grad_norm: float | None = 1.0  # gradients are clipped to this norm; null: never
    muon_learning_rate: float | None = None  # of the matrices of layers, by Muon instead of Adam; null: all by Adam
    muon_momentum: float = 0.95  # of Muon

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "learning_rate", "epsilon")
        require(self.kind in ("upstream_adam", "adamw"), f"kind is {self.kind!r}; choose 'upstream_adam' or 'adamw'")
        require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}; it cannot be negative")
        require(all(0 <= beta < 1 for beta in self.betas), f"betas are {self.betas}; each must be from 0 to below 1")
        require(
            self.max_grad_norm is None or self.max_grad_norm > 0,
            f"max_grad_norm is {self.max_grad_norm}; it must be positive, or null",
        )
        require(
            self.muon_learning_rate is None or self.muon_learning_rate > 0,
            f"muon_learning_rate is {self.muon_learning_rate}; it must be positive, or null for Adam alone",
        )
        require(0 <= self.muon_momentum < 1, f"muon_momentum is {self.muon_momentum}; it must be from 0 to below 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Learning rate schedule: a linear warm-up, then decay. Counted in optimiser steps."""

    warmup_steps: int = 100  # over which the rate rises from 0
    kind: Literal["step", "linear", "noam"] = "step"  # noam: the warm-up ends at the full rate, which then falls with
    # the square root of the steps (Vaswani et al. 2017)
    decay_start: int = 0  # linear: the step at which the decay begins
    decay_steps: int = 10_000_000_000  # step: steps between two decays; linear: steps until the rate is 0
    gamma: float = 1.0  # step: factor of each decay

    def __post_init__(self) -> None:
        """Checks ranges."""
        require(self.kind in ("step", "linear", "noam"), f"kind is {self.kind!r}; choose 'step', 'linear' or 'noam'")
        require(
            self.kind != "noam" or self.warmup_steps > 0,
            "warmup_steps is 0, but kind is 'noam', whose rate falls from its end; set warmup_steps to 1 or more",
        )
        require(
            self.warmup_steps >= 0 and self.decay_start >= 0,
            f"warmup_steps {self.warmup_steps}, decay_start {self.decay_start}: neither may be negative",
        )
        require(
            self.decay_steps > 0 and self.gamma > 0,
            f"decay_steps {self.decay_steps} and gamma {self.gamma} must be positive",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """Length of a training, batch size, precision, and how often it logs, saves and evaluates."""

    max_steps: int  # optimiser steps, after which the training ends
    batch_size: int  # items of one forward pass on one device
    gradient_accumulation_steps: int = 1  # batches whose gradients are accumulated for one optimiser step
    seed: int = 0  # of the order of the data, and of new weights
    ema_decay: float | None = 0.99  # of the exponential moving average of the weights; null: no average
    # auto: bf16-mixed on a device with products in bfloat16, 32-true on others, where it would be slower
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true"] = "32-true"
    gradient_checkpointing: bool = False  # recompute activations in the backward pass: less memory, a third more time
    num_workers: int = 0  # processes of the data loader; 0: the main process reads and prepares data
    logging_steps: int = 20  # steps between two lines of the log
    save_steps: int = 500  # steps between two checkpoints
    eval_steps: int = 500  # steps between two evaluations: losses on held-out data, and logged samples
    eval_batches: int = 4  # of each evaluation

    def __post_init__(self) -> None:
        """Checks ranges."""
        positive = (
            "max_steps",
            "batch_size",
            "gradient_accumulation_steps",
            "logging_steps",
            "save_steps",
            "eval_steps",
        )
        require_positive(self, *positive)
        for name in ("num_workers", "eval_batches"):
            value = getattr(self, name)
            require(value >= 0, f"{name} is {value}; it cannot be negative")
        require(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            f"ema_decay is {self.ema_decay}; it must be above 0 and below 1, or null",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Hyperparameters of training one part of a model."""

    loop: LoopConfig
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


def training_causes(training: Training) -> dict[str, Any]:
    """Returns hyperparameters as plain data; without those of Muon where it is not used, so that older digests stay."""
    plain = to_plain(training)
    if training.optimiser.muon_learning_rate is None:
        for name in ("muon_learning_rate", "muon_momentum"):
            del plain["optimiser"][name]
    found: dict[str, Any] = plain
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class DevicesConfig:
    """Devices and processes of a training, as Lightning Fabric names them."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"  # ddp: a full replica on each device; fsdp: sharded
    devices: int = 1  # on this machine; torchrun starts them
    num_nodes: int = 1  # machines

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "devices", "num_nodes")
        require(
            self.strategy != "fsdp" or self.world_size > 1,
            "strategy is 'fsdp', but there is one device; set devices to the number of them, or strategy to auto",
        )

    @property
    def world_size(self) -> int:
        """Processes of the whole training."""
        return self.devices * self.num_nodes
