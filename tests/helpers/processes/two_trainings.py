"""One of two processes that train together; arguments: folder, strategy, number of steps, what is trained."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from jukebox_core.training.config import DevicesConfig
from tests.helpers.models.tiny_training import run

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, strategy, steps, kind = sys.argv[1:]
    devices = DevicesConfig(accelerator="cpu", devices=2, strategy=strategy)  # type: ignore[arg-type]
    run(Path(folder), kind=kind, devices=devices, max_steps=int(steps))
