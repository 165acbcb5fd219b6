"""The training loop: any module whose call gives a loss, over data that are numbered, with exact resume.

What a step does depends on the stored state and the step's number alone: items are chosen by number (`order`), and
random numbers come from a generator that every step seeds anew. So a process that is killed goes on from its last
checkpoint with the losses that it would have had.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import fsspec
import numpy as np
import torch
from torch.utils.data import DataLoader

from jukebox_core.errors import TrainingError
from jukebox_core.training.devices import is_shared, recompute, whole
from jukebox_core.training.log import Log
from jukebox_core.training.optimiser import UpstreamAdam, WeightAverage, rate_factor
from jukebox_core.training.order import StepOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer
    from torch import Tensor, nn
    from torch.utils.data import Dataset

    from jukebox_core.training.config import Training

CHECKPOINT_NAME = "checkpoint.pt"
LOG_FOLDER = "log"
_CHECK_SEED = 1 << 20  # held-out items are drawn apart from those that are learnt


class Numbered(Protocol):
    """A dataset whose items are numbered without end; `len` is an epoch's."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is trained, and on what.

    ``step(batch, generator)`` returns the loss and metrics, scalars by name.
    """

    name: str
    step: nn.Module
    units: tuple[type[nn.Module], ...]  # the parts that are recomputed, and sent, as a whole
    collate: Callable[[Sequence[Any]], Any]
    data: Numbered
    held_out: Numbered | None = None
    show: Callable[[Log, int], None] | None = None  # puts pictures and sound into the log


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a training stands."""

    step: int
    finished: bool
    checked: dict[str, float]  # metrics on held-out data, of the averaged weights; empty without such data


class TrainingLoop:
    """Trains to the end, or goes on from the checkpoint that is there; the module then holds the averaged weights.

    Args:
        fabric: devices and precision.
        subject: what is trained, and on what.
        training: how.
        folder: local; the log goes into it.
        say: told a line now and then.
        checkpoints: the folder of the checkpoint, any address that fsspec knows; None: `folder`.

    Raises:
        TrainingError: the checkpoint belongs to another training.
    """

    def __init__(
        self,
        fabric: Fabric,
        subject: Subject,
        training: Training,
        folder: Path,
        say: Callable[[str], None],
        checkpoints: str | None = None,
    ) -> None:
        self.fabric, self.subject, self.say = fabric, subject, say
        self.config, self.schedule, optimiser = training.loop, training.schedule, training.optimiser
        self.clip, self.rate, self.checkpoints = optimiser.clip, optimiser.learning_rate, checkpoints or str(folder)
        if self.config.checkpointing:
            recompute(subject.step, subject.units)
        self.module = fabric.setup_module(subject.step)
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.optimiser = cast("_FabricOptimizer", fabric.setup_optimizers(UpstreamAdam(trained, optimiser)))
        self.average = WeightAverage(self.module, self.config.average) if self.config.average is not None else None
        self.shared = any(is_shared(parameter) for parameter in trained)
        self.step = 0
        self._load()
        self.log = Log(folder / LOG_FOLDER, self.step) if fabric.is_global_zero else None

    def run(self, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Trains and returns where it ended: at the last step, or where `stop`, asked after every step, was true.

        Raises:
            TrainingError: the loss is no number any more.
        """
        config, waited, began, since = self.config, 0.0, time.monotonic(), self.step
        checked = self._check() if self.step == config.steps else {}
        batches = self._batches(self.subject.data, config.seed, self.step * config.accumulate)
        while self.step < config.steps:
            loss, norm, metrics, spent = self._one(batches)
            waited += spent
            self.step += 1
            if self.step % config.log_every == 0 or self.step == config.steps:
                took = time.monotonic() - began
                speed = {"seconds": took / (self.step - since), "data_share": waited / took}
                self._note(loss, {**metrics, "norm": norm}, speed)
                waited, began, since = 0.0, time.monotonic(), self.step
            if self.step % config.check_every == 0 or self.step == config.steps:
                checked = self._check()
            stopping = self._any(stop())
            if self.step % config.save_every == 0 or self.step == config.steps or stopping:
                self._save()
            if stopping:
                break
        self._end()
        return Outcome(self.step, self.step >= config.steps, checked)

    def _one(self, batches: Iterator[Any]) -> tuple[Tensor, Tensor, dict[str, Tensor], float]:
        """Takes one step; returns loss, norm of the gradients, metrics, and the seconds spent waiting for data."""
        accumulate, waited = self.config.accumulate, 0.0
        self.module.train()
        total = torch.zeros((), device=self.fabric.device)
        for part in range(accumulate):
            asked = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - asked
            with self.fabric.no_backward_sync(self.module, enabled=part < accumulate - 1):
                loss, metrics = self.module(batch, self._generator(part))
                self.fabric.backward(loss / accumulate)
            total += loss.detach() / accumulate
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * rate_factor(self.step, self.schedule)
        clip = self.clip if self.clip is not None else float("inf")
        norm = self.fabric.clip_gradients(self.module, self.optimiser, max_norm=clip, error_if_nonfinite=False)
        assert norm is not None
        norm = whole(norm)
        if not torch.isfinite(norm):
            raise TrainingError(
                f"{self.subject.name}: the gradient of step {self.step} has norm {float(norm)}, its loss is "
                f"{float(total)}; lower the learning rate, or check the data for what is no number"
            )
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.average is not None:
            self.average.update()
        return total, norm, metrics, waited

    def _generator(self, part: int) -> torch.Generator:
        words = (self.config.seed, self.step, part, self.fabric.global_rank)
        seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator(self.fabric.device).manual_seed(seed)

    def _batches(self, data: Numbered, seed: int, first: int) -> Iterator[Any]:
        fabric, workers = self.fabric, self.config.workers
        order = StepOrder(
            len(data), self.config.batch, seed, first=first, rank=fabric.global_rank, world=fabric.world_size
        )
        loader: DataLoader[Any] = DataLoader(
            _as_dataset(data),
            batch_sampler=order,
            num_workers=workers,
            collate_fn=self.subject.collate,
            persistent_workers=workers > 0,
            pin_memory=fabric.device.type == "cuda",
        )
        return (fabric.to_device(batch) for batch in loader)

    @torch.no_grad()
    def _check(self) -> dict[str, float]:
        """Measures the averaged weights on held-out data, and shows what there is to see and hear."""
        held_out, count = self.subject.held_out, self.config.check_batches
        found: list[dict[str, Tensor]] = []
        self.module.eval()
        with self._averaged():
            if held_out is not None and count:
                batches = self._batches(held_out, _CHECK_SEED, 0)
                for part in range(count):
                    loss, metrics = self.module(next(batches), self._generator(part))
                    found.append({"loss": loss, **metrics})
            shown = self.subject.show if not self.shared else None  # a share of a model can make nothing
            if shown is not None and self.log is not None:
                shown(self.log, self.step)
        means = {name: float(self._mean([each[name] for each in found])) for name in (found[0] if found else ())}
        if means and self.log is not None:
            self.log.scalars("check", self.step, means)
            self.say(f"{self.subject.name}: step {self.step}, held out: " + _numbers(means))
        return means

    def _note(self, loss: Tensor, metrics: dict[str, Tensor], speed: dict[str, float]) -> None:
        values = {name: float(self._mean([value])) for name, value in {"loss": loss, **metrics}.items()}
        if self.log is not None:
            self.log.scalars("train", self.step, {**values, "rate": self.optimiser.param_groups[0]["lr"], **speed})
            shown = {"loss": values["loss"], **speed}
            self.say(f"{self.subject.name}: step {self.step} of {self.config.steps}, " + _numbers(shown))

    def _mean(self, values: list[Tensor]) -> Tensor:
        mean = torch.stack([value.detach().float() for value in values]).mean()
        if self.fabric.world_size > 1:
            mean = self.fabric.all_reduce(mean, reduce_op="mean")  # type: ignore[assignment]
        return mean

    def _any(self, mine: bool) -> bool:
        """Whether it holds in any process: all must leave the loop at one step."""
        if self.fabric.world_size == 1:
            return mine
        told = self.fabric.all_reduce(torch.tensor(float(mine), device=self.fabric.device), reduce_op="sum")
        return bool(told)

    def _averaged(self) -> Any:
        return self.average.swapped_in() if self.average is not None else nullcontext()

    def _load(self) -> None:
        address = self._address(CHECKPOINT_NAME)
        fs, path = fsspec.core.url_to_fs(address)
        if not fs.exists(path):
            return
        try:
            rest = self.fabric.load(address, {"module": self.module, "optimiser": self.optimiser})
        except (RuntimeError, KeyError, ValueError) as error:
            raise TrainingError(
                f"{address} is no checkpoint of this training "
                f"({' '.join(str(error).split())[:200]}); give another folder, or remove it to begin anew"
            ) from None
        self.step = int(rest["step"])
        if self.average is not None:
            self.average.load_state_dict(rest["average"])
        self.say(f"{self.subject.name}: goes on from step {self.step}")

    def _save(self) -> None:
        """Stores the state under its name once it is whole: a process killed on the way leaves the state before."""
        state: dict[str, Any] = {"module": self.module, "optimiser": self.optimiser, "step": self.step}
        if self.average is not None:
            state["average"] = self.average.state_dict()
        fresh = self._address(".next.pt")
        self.fabric.save(fresh, state)
        if self.fabric.is_global_zero:
            fs, path = fsspec.core.url_to_fs(fresh)
            fs.mv(path, f"{path.rpartition('/')[0]}/{CHECKPOINT_NAME}")
        self.fabric.barrier()

    def _address(self, name: str) -> str:
        return f"{self.checkpoints.rstrip('/')}/{name}"

    def _end(self) -> None:
        """Leaves the averaged weights in the module, and the log written."""
        if self.average is not None:
            self.average.swap()
        if self.log is not None:
            self.log.close()


def _as_dataset(data: Numbered) -> Dataset[Any]:
    return data  # type: ignore[return-value]


def _numbers(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
