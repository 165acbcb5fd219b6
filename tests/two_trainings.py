"""One of two processes that train together; started by torchrun."""

from __future__ import annotations

import sys

import torch
from tiny_training import loop, subject

from jukebox_core.training.config import DevicesConfig, OptimiserConfig, ScheduleConfig
from jukebox_core.training.devices import start_fabric
from jukebox_core.training.loop import fit

if __name__ == "__main__":
    torch.set_num_threads(1)
    config = loop(steps=6)
    fabric = start_fabric(DevicesConfig(accelerator="cpu", devices=2), config.precision)
    schedule, optimiser = ScheduleConfig(warmup=3), OptimiserConfig(learning_rate=1e-3)
    fit(fabric, subject("one_sequence"), config, optimiser, schedule, sys.argv[1], say=print)
