"""One of two processes that train together; arguments: folder, strategy, number of steps."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from jukebox_core.training.config import DevicesConfig
from tests.helpers.models.tiny_training import run

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, strategy, steps = sys.argv[1:]
    devices = DevicesConfig(accelerator="cpu", devices=2, strategy=strategy)  # type: ignore[arg-type]
    run(Path(folder), devices=devices, max_steps=int(steps))
