"""The training loop: any module whose call returns a loss, over an indexed dataset, resumable without a difference.

A step depends only on the checkpoint and on its own number: items are chosen by number (`batch_order`), and random
numbers come from a generator that is seeded for each step. A process that is killed resumes from its last checkpoint
with the losses of an uninterrupted training.
"""

from __future__ import annotations

import pickle
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import fsspec
import numpy as np
import torch
from torch.utils.data import DataLoader

from jukebox_core.errors import JukeboxError, TrainingError
from jukebox_core.runtime.finite import are_finite, first_not_finite
from jukebox_core.training.batch_order import EndlessBatchSampler
from jukebox_core.training.devices import enable_gradient_checkpointing, gathered, is_sharded, local_part
from jukebox_core.training.log import Log
from jukebox_core.training.optimiser import ExponentialMovingAverage, lr_factor, make_optimiser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer
    from torch import Tensor, nn
    from torch.utils.data import Dataset

    from jukebox_core.training.config import Training

CHECKPOINT_NAME = "checkpoint.pt"
LOG_FOLDER = "log"
_EVAL_SEED = 1 << 20  # of the order of held-out items
_NO_CHECKPOINT = (  # what reading other or damaged files raises
    AttributeError, EOFError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError, pickle.PickleError,
)  # fmt: skip


class IndexedDataset(Protocol):
    """A dataset with an item for every index from 0 on; `len` is the number of items of an epoch."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One part of a model in training: its module, its data and its logged samples.

    ``step(batch, generator)`` returns the loss and the metrics, scalar tensors by name.
    """

    name: str
    step: nn.Module
    units: tuple[type[nn.Module], ...]  # the submodules that are sharded, and recomputed by gradient checkpointing
    collate: Callable[[Sequence[Any]], Any]
    data: IndexedDataset
    eval_data: IndexedDataset | None = None
    log_samples: Callable[[Log, int], None] | None = None  # logs images and audio at an evaluation
    network: nn.Module | None = None  # the part of `step` that is exported; None: all of it
    exact: tuple[str, ...] = ()  # tensors of it that are exported in their own precision, not in half
    about: Mapping[str, Any] = field(default_factory=dict)  # JSON that is stored in the file of its weights


@dataclass(frozen=True, slots=True)
class Outcome:
    """State of a training when `TrainingLoop.run` returned."""

    step: int
    finished: bool
    metrics: dict[str, float]  # of the averaged weights on held-out data; empty without such data


class TrainingLoop:
    """Trains a module from its last checkpoint on, if there is one; at the end it holds the averaged weights.

    Args:
        fabric: devices and precision.
        subject: module and data.
        training: hyperparameters.
        folder: local; receives the log.
        report: receives a line of text at every log entry.
        checkpoints: folder of the checkpoint, any URL that fsspec supports; None: `folder`.

    Raises:
        TrainingError: the checkpoint belongs to another training.
    """

    def __init__(
        self,
        fabric: Fabric,
        subject: Subject,
        training: Training,
        folder: Path,
        report: Callable[[str], None],
        checkpoints: str | None = None,
    ) -> None:
        self.fabric, self.subject, self.report = fabric, subject, report
        self.config, self.schedule, optimiser = training.loop, training.schedule, training.optimiser
        self.max_grad_norm, self.learning_rate = optimiser.max_grad_norm, optimiser.learning_rate
        self.checkpoints = checkpoints or str(folder)
        if self.config.gradient_checkpointing:
            enable_gradient_checkpointing(subject.step, subject.units)
        self.module = fabric.setup_module(subject.step)
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        made = make_optimiser(trained, optimiser, self._layer_matrices())
        self.optimiser = cast("_FabricOptimizer", fabric.setup_optimizers(made))
        decay = self.config.ema_decay
        self.ema = ExponentialMovingAverage(subject.step, decay) if decay is not None else None
        self.sharded = any(is_sharded(parameter) for parameter in trained)
        self.step = 0
        self.saved: int | None = None  # the step of the stored checkpoint
        self._load()
        self.log = Log(folder / LOG_FOLDER, self.step) if fabric.is_global_zero else None

    def run(self, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Trains until the last step, or until `stop`, called after every step, returns true.

        Raises:
            TrainingError: a loss, a gradient or a weight is not finite; the last checkpoint is kept.
        """
        config, waited, began, since = self.config, 0.0, time.monotonic(), self.step
        metrics = self._evaluate() if self.step == config.max_steps else {}
        batches = self._batches(self.subject.data, config.seed, self.step * config.gradient_accumulation_steps)
        while self.step < config.max_steps:
            # 1) one optimiser step
            loss, norm, parts, spent = self._train_step(batches)
            waited += spent
            self.step += 1
            last = self.step == config.max_steps
            # 2) log
            if self.step % config.logging_steps == 0 or last:
                took = time.monotonic() - began
                speed = {"seconds": took / (self.step - since), "data_share": waited / took}
                self._log_step(loss, {**parts, "norm": norm}, speed)
                waited, began, since = 0.0, time.monotonic(), self.step
            # 3) evaluate
            if self.step % config.eval_steps == 0 or last:
                self._check_finite()
                metrics = self._evaluate()
            # 4) save, also before stopping
            stopping = self._any_process(stop())
            if self.step % config.save_steps == 0 or last or stopping:
                self._check_finite()
                self._save()
            if stopping:
                break
        self._finish()
        return Outcome(self.step, self.step >= config.max_steps, metrics)

    def _train_step(self, batches: Iterator[Any]) -> tuple[Tensor, Tensor, dict[str, Tensor], float]:
        """Returns loss, norm of the gradients, metrics, and the seconds spent waiting for data."""
        accumulated, waited = self.config.gradient_accumulation_steps, 0.0
        self.module.train()
        total = torch.zeros((), device=self.fabric.device)
        # 1) forward and backward of every batch; gradients are synchronised at the last
        for part in range(accumulated):
            asked = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - asked
            with self.fabric.no_backward_sync(self.module, enabled=part < accumulated - 1):
                loss, metrics = self.module(batch, self._generator(part))
                self.fabric.backward(loss / accumulated)
            total += loss.detach() / accumulated
        # 2) learning rate, clipping
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * lr_factor(self.step, self.schedule)
        limit = self.max_grad_norm if self.max_grad_norm is not None else float("inf")
        norm = self.fabric.clip_gradients(self.module, self.optimiser, max_norm=limit, error_if_nonfinite=False)
        assert norm is not None
        norm = gathered(norm)
        if not torch.isfinite(norm + total):
            raise TrainingError(
                f"{self.subject.name}: the gradient of step {self.step} has norm {float(norm)}, its loss is "
                f"{float(total)}; {self._remedy()}"
            )
        # 3) update
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.ema is not None:
            self.ema.update()
        return total, norm, metrics, waited

    def _layer_matrices(self) -> list[nn.Parameter]:
        layers = [part for part in self.module.modules() if isinstance(part, self.subject.units)]
        return [each for part in layers for each in part.parameters() if each.ndim == 2 and each.requires_grad]

    def _check_finite(self) -> None:
        """Checks weights, averages and the optimiser's state; TrainingError in every process if one is not finite."""
        states = self.optimiser.state.values()
        moments = [each for state in states for each in state.values() if isinstance(each, torch.Tensor) and each.ndim]
        averages = [] if self.ema is None else list(self.ema.averages.values())
        others = [("average", each) for each in averages] + [("moment", each) for each in moments]
        values: dict[str, Tensor] = dict(self.subject.step.state_dict())
        values |= {f"{kind} {number}": value for number, (kind, value) in enumerate(others)}
        local = {name: local_part(value) for name, value in values.items()}
        bad = None if are_finite(local.values()) else first_not_finite(local)
        if self._any_process(bad is not None):
            where = f"{bad} is" if bad is not None else "weights of another process are"
            raise TrainingError(f"{self.subject.name}: {where} not finite after step {self.step}; {self._remedy()}")

    def _remedy(self) -> str:
        kept = f"the checkpoint of step {self.saved} is kept, and the same command continues from it"
        return (
            "lower the learning rate, or check the data for values that are not finite; "
            f"{kept if self.saved is not None else 'no checkpoint was stored yet'}"
        )

    def _generator(self, part: int) -> torch.Generator:
        words = (self.config.seed, self.step, part, self.fabric.global_rank)
        seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator(self.fabric.device).manual_seed(seed)

    def _batches(self, data: IndexedDataset, seed: int, first: int) -> Iterator[Any]:
        fabric, config = self.fabric, self.config
        sampler = EndlessBatchSampler(
            len(data), config.batch_size, seed, first=first, rank=fabric.global_rank, world_size=fabric.world_size
        )
        loader: DataLoader[Any] = DataLoader(
            _as_dataset(data),
            batch_sampler=sampler,
            num_workers=config.num_workers,
            collate_fn=self.subject.collate,
            persistent_workers=config.num_workers > 0,
            pin_memory=fabric.device.type == "cuda",
        )
        return (fabric.to_device(batch) for batch in _with_plain_errors(loader))

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        """Returns the metrics of the averaged weights on held-out data, and logs them with images and audio."""
        eval_data, count = self.subject.eval_data, self.config.eval_batches
        found: list[dict[str, Tensor]] = []
        self.module.eval()
        with self._averaged():
            if eval_data is not None and count:
                batches = self._batches(eval_data, _EVAL_SEED, 0)
                for part in range(count):
                    loss, metrics = self.module(next(batches), self._generator(part))
                    found.append({"loss": loss, **metrics})
            log_samples = self.subject.log_samples if not self.sharded else None  # a shard of a model samples nothing
            if log_samples is not None and self.log is not None:
                log_samples(self.log, self.step)
        means = {name: float(self._mean([each[name] for each in found])) for name in (found[0] if found else ())}
        if means and self.log is not None:
            self.log.scalars("check", self.step, means)
            self.report(f"{self.subject.name}: step {self.step}, held out: " + _as_text(means))
        return means

    def _log_step(self, loss: Tensor, metrics: dict[str, Tensor], speed: dict[str, float]) -> None:
        values = {name: float(self._mean([value])) for name, value in {"loss": loss, **metrics}.items()}
        if self.log is not None:
            self.log.scalars("train", self.step, {**values, "rate": self.optimiser.param_groups[0]["lr"], **speed})
            shown = {"loss": values["loss"], **speed}
            self.report(f"{self.subject.name}: step {self.step} of {self.config.max_steps}, " + _as_text(shown))

    def _mean(self, values: list[Tensor]) -> Tensor:
        mean = torch.stack([value.detach().float() for value in values]).mean()
        if self.fabric.world_size > 1:
            mean = self.fabric.all_reduce(mean, reduce_op="mean")  # type: ignore[assignment]
        return mean

    def _any_process(self, mine: bool) -> bool:
        """Returns whether `mine` is true in any process: all must leave the loop at the same step."""
        if self.fabric.world_size == 1:
            return mine
        total = self.fabric.all_reduce(torch.tensor(float(mine), device=self.fabric.device), reduce_op="sum")
        return bool(total)

    def _averaged(self) -> Any:
        return self.ema.swapped_in() if self.ema is not None else nullcontext()

    def _load(self) -> None:
        url = self._url(CHECKPOINT_NAME)
        fs, path = fsspec.core.url_to_fs(url)
        if not fs.exists(path):
            return
        try:
            if not fs.isfile(path):  # a pipe would be waited for
                raise ValueError("it is no file")
            state = {"module": self.module, "optimiser": self.optimiser}
            rest = self.fabric.load(url, state, weights_only=True)  # whatever it is: nothing in it is run
            self.step = int(rest["step"])
            if self.ema is not None:
                self.ema.load_state_dict(rest["ema"])
        except _NO_CHECKPOINT as error:
            raise TrainingError(
                f"{url} is no checkpoint of this training "
                f"({' '.join(str(error).split())[:200]}); give another folder, or remove it to start from step 0"
            ) from None
        try:
            self._check_finite()
        except TrainingError:
            raise TrainingError(
                f"{url}, of step {self.step}, holds numbers that are not finite; remove it to start from step 0"
            ) from None
        self.saved = self.step
        self.report(f"{self.subject.name}: resumes from step {self.step}")

    def _save(self) -> None:
        """Writes the checkpoint atomically: a process killed meanwhile, or a full disk, leaves the previous one.

        Raises:
            TrainingError: it cannot be written.
        """
        state: dict[str, Any] = {"module": self.module, "optimiser": self.optimiser, "step": self.step}
        if self.ema is not None:
            state["ema"] = self.ema.state_dict()
        fresh = self._url(".next.pt")
        try:
            self.fabric.save(fresh, state)
        except (OSError, RuntimeError) as error:  # the latter is what torch makes of a full disk
            raise TrainingError(
                f"the checkpoint cannot be written to {self.checkpoints} ({' '.join(str(error).split())[:200]}); free "
                "some space there, and run the same command: it continues from the checkpoint before"
            ) from error
        if self.fabric.is_global_zero:
            fs, path = fsspec.core.url_to_fs(fresh)
            fs.mv(path, f"{path.rpartition('/')[0]}/{CHECKPOINT_NAME}")
        self.fabric.barrier()
        self.saved = self.step

    def _url(self, name: str) -> str:
        return f"{self.checkpoints.rstrip('/')}/{name}"

    def _finish(self) -> None:
        """Leaves the averaged weights in the module, and closes the log."""
        if self.ema is not None:
            self.ema.swap()
        if self.log is not None:
            self.log.close()


def _as_dataset(data: IndexedDataset) -> Dataset[Any]:
    return data  # type: ignore[return-value]


def _with_plain_errors(batches: Iterable[Any]) -> Iterator[Any]:
    """Yields batches; an error of this project in a worker process is raised without that process's traceback."""
    try:
        yield from batches
    except JukeboxError as error:
        kind = type(error)
        raise kind(str(error).rpartition(f"{kind.__name__}: ")[2].strip()) from None


def _as_text(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
