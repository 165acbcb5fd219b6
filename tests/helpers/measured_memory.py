"""Takes two steps of a part of mini, and prints the bytes that they were said to take, and those that they took."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from jukebox_core.base.paths import conf_dir
from jukebox_core.base.structuring import build
from jukebox_core.families.jukebox.checkpoints.initialise import new_prior
from jukebox_core.families.jukebox.model.convnet import ResidualStack
from jukebox_core.families.jukebox.model.transformer import Block
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.families.jukebox.training.config import TrainingConfig
from jukebox_core.families.jukebox.training.memory import prior_memory, vqvae_memory
from jukebox_core.families.jukebox.training.prior import PriorBatch, PriorStep
from jukebox_core.families.jukebox.training.vqvae import VQVAEStep
from jukebox_core.models.presets import load_preset, load_yaml
from jukebox_core.training.config import DevicesConfig
from jukebox_core.training.devices import start_fabric
from jukebox_core.training.loop import Subject, TrainingLoop


class Same:
    """One item, as often as it is asked for."""

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
        return Subject(name=part, step=step, units=(ResidualStack,), collate=torch.stack, data=Same(sound))
    level = int(part[-1])
    prior = new_prior(config, level, 0)
    row = [600_000, 0, config.context_length(level), 1, 1]
    batch = training.prior(level).loop.batch
    lyrics = config.priors[level].lyrics
    labels = torch.tensor([row + ([1] * lyrics.tokens if lyrics else [])] * batch)
    above = torch.zeros(batch, prior.above_tokens, dtype=torch.int64) if prior.above is not None else None
    given = PriorBatch(
        torch.zeros(batch, config.priors[level].context, dtype=torch.int64),
        labels,
        above,
        torch.full((batch, 2), torch.nan),
    )
    return Subject(name=part, step=PriorStep(prior), units=(Block,), collate=lambda _: given, data=Same(0))


def peak() -> int:
    """The most memory that this process had; what getrusage tells begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    torch.set_num_threads(1)
    part, told = sys.argv[1], load_yaml(conf_dir() / "training" / "mini.yaml")
    told[part]["loop"] |= {"steps": 2, "save_every": 9, "check_every": 9}
    training = build(TrainingConfig, told)
    config = load_preset("mini").config
    if part == "vqvae":
        estimated, how = vqvae_memory(config, training.vqvae), training.vqvae
    else:
        estimated, how = (
            prior_memory(config, int(part[-1]), training.prior(int(part[-1]))),
            training.prior(int(part[-1])),
        )
    with tempfile.TemporaryDirectory() as folder:
        loop = TrainingLoop(
            start_fabric(DevicesConfig(accelerator="cpu"), how.loop.precision), subject(part, training), how,
            Path(folder), lambda _: None,
        )  # fmt: skip
        before = peak() - estimated.weights - estimated.average  # these are there already
        loop.run()
        print(estimated.total, peak() - before)


if __name__ == "__main__":
    main()
