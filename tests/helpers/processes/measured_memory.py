"""Trains a part of mini for two steps; prints the estimated and the measured bytes."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from jukebox_core.base.structuring import build
from jukebox_core.families.jukebox.checkpoints.initialise import new_prior
from jukebox_core.families.jukebox.model.convnet import ResidualStack
from jukebox_core.families.jukebox.model.transformer import Block
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.families.jukebox.training.batch import PriorBatch
from jukebox_core.families.jukebox.training.config import TrainingConfig
from jukebox_core.families.jukebox.training.memory import prior_memory, vqvae_memory
from jukebox_core.families.jukebox.training.prior import PriorStep
from jukebox_core.families.jukebox.training.vqvae import VQVAEStep
from jukebox_core.models.presets import load_preset, option_data, option_path
from jukebox_core.training.config import DevicesConfig
from jukebox_core.training.devices import start_fabric
from jukebox_core.training.loop import Subject, TrainingLoop


class Constant:
    """The same item at every index."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __len__(self) -> int:
        return 64

    def __getitem__(self, _: int) -> Any:
        return self.item


def subject(part: str, training: TrainingConfig) -> Subject:
    config = load_preset("mini").config
    if part == "vqvae":
        step = VQVAEStep(VQVAE(config.vqvae), training.vqvae.loss, training.vqvae.codebook)
        sound = torch.randn(int(training.vqvae.seconds * config.vqvae.sample_rate)) / 10
        return Subject(name=part, step=step, units=(ResidualStack,), collate=torch.stack, data=Constant(sound))
    level = int(part[-1])
    prior = new_prior(config, level, 0)
    row = [600_000, 0, config.context_length(level), 1, 1]
    batch = training.prior(part).loop.batch_size
    lyrics = config.priors[level].lyrics
    labels = torch.tensor([row + ([1] * lyrics.tokens if lyrics else [])] * batch)
    above = torch.zeros(batch, prior.above_tokens, dtype=torch.int64) if prior.above is not None else None
    batch_of_windows = PriorBatch(
        torch.zeros(batch, config.priors[level].context, dtype=torch.int64),
        labels,
        above,
        torch.full((batch, 2), torch.nan),
    )
    return Subject(
        name=part, step=PriorStep(prior), units=(Block,), collate=lambda _: batch_of_windows, data=Constant(0)
    )


def peak() -> int:
    """Peak memory of this process in bytes; that of getrusage would include its parent's."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    torch.set_num_threads(1)
    part, data = sys.argv[1], option_data(option_path("mini", "training"), "training")
    data[part]["loop"] |= {"max_steps": 2, "save_steps": 9, "eval_steps": 9}
    training = build(TrainingConfig, data)
    config = load_preset("mini").config
    if part == "vqvae":
        estimated, how = vqvae_memory(config, training.vqvae), training.vqvae
    else:
        how = training.prior(part)
        estimated = prior_memory(config, int(part[-1]), how)
    with tempfile.TemporaryDirectory() as folder:
        loop = TrainingLoop(
            start_fabric(DevicesConfig(accelerator="cpu"), how.loop.precision), subject(part, training), how,
            Path(folder), lambda _: None,
        )  # fmt: skip
        before = peak() - estimated.weights - estimated.ema  # allocated already
        loop.run()
        print(estimated.total, peak() - before)


if __name__ == "__main__":
    main()
