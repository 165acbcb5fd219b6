"""A minimal training for tests; as a program it trains until the last step, or until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.families.jukebox.model.transformer import Block
from jukebox_core.families.jukebox.training.batch import Item, collate
from jukebox_core.families.jukebox.training.prior import PriorStep
from jukebox_core.families.mt3.config import TRANSCRIBER
from jukebox_core.families.mt3.training.excerpts import Collate, Excerpts
from jukebox_core.families.mt3.training.initialise import new_model
from jukebox_core.families.mt3.training.memory import UNITS
from jukebox_core.families.mt3.training.step import TranscriberStep
from jukebox_core.training.config import DevicesConfig, LoopConfig, OptimiserConfig, ScheduleConfig, Training
from jukebox_core.training.devices import start_fabric
from jukebox_core.training.loop import Outcome, Subject, TrainingLoop
from tests.helpers.models.tiny_priors import CONFIGS, VQVAE, codes_above, label_rows, tiny_prior
from tests.unit.families.mt3.training.test_excerpts import NETWORK, Tones

if TYPE_CHECKING:
    from collections.abc import Callable


class Items:
    """Windows of random codes, a function of their index."""

    def __init__(self, kind: str, count: int) -> None:
        self.prior, self.count = tiny_prior(kind), count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        generator = torch.Generator().manual_seed(index)
        codes = torch.randint(VQVAE.bins, (self.prior.config.context,), generator=generator)
        upper = codes_above(self.prior, 1)
        no_pace = torch.full((2,), torch.nan)
        return Item(codes, label_rows(self.prior, 1)[0], None if upper is None else upper[0], no_pace)


def transcriber() -> Subject:
    """A tiny MT3 model that is guided; segments have different numbers of ids."""
    step = TranscriberStep(new_model(NETWORK, 0), 0.1, 2, guide_weight=0.2)
    data = Excerpts(Tones(), NETWORK, segments=1, seed=0, augment=None)
    return Subject(
        name=TRANSCRIBER,
        step=step,
        units=UNITS,
        collate=Collate(NETWORK),
        data=data,
        eval_data=data,
        network=step.model,
    )


def subject(kind: str, items: int = 10) -> Subject:
    if kind == TRANSCRIBER:
        return transcriber()
    assert kind in CONFIGS
    prior = tiny_prior(kind).train().requires_grad_(requires_grad=True)
    data = Items(kind, items)
    return Subject(name=kind, step=PriorStep(prior), units=(Block,), collate=collate, data=data, eval_data=data)


def loop(**changes: Any) -> LoopConfig:
    settings = {
        "max_steps": 12, "batch_size": 2, "logging_steps": 1, "save_steps": 4, "eval_steps": 6, "eval_batches": 1,
    }  # fmt: skip
    return LoopConfig(**{**settings, **changes})


CPU = DevicesConfig(accelerator="cpu")


def training(**changes: Any) -> Training:
    optimiser, schedule = OptimiserConfig(learning_rate=1e-3), ScheduleConfig(warmup_steps=3)
    return Training(loop=loop(**changes), optimiser=optimiser, schedule=schedule)


def run(
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    *,
    kind: str = "one_sequence",
    devices: DevicesConfig = CPU,
    checkpoints: str | None = None,
    **changes: Any,
) -> Outcome:
    trained, how = subject(kind), training(**changes)
    fabric = start_fabric(devices, how.loop.precision, trained.units)
    return TrainingLoop(fabric, trained, how, folder, print, checkpoints).run(stop)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), max_steps=int(sys.argv[2]))
