"""Estimated memory of training, compared with the memory of a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from jukebox_core.training.config import LoopConfig
from jukebox_core.training.memory import training_memory
from tests.helpers.paths import ROOT, TESTS

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_tensors_of_a_step_are_counted() -> None:
    width = 1000

    def build(batch: int) -> tuple[nn.Module, object]:
        layers = nn.Sequential(*[nn.Sequential(nn.Linear(width, width, bias=False), nn.Sigmoid()) for _ in range(4)])
        return layers, lambda: layers(torch.zeros(5000 * batch, width)).sum()

    loop = LoopConfig(max_steps=1, batch_size=1)
    found = training_memory(build, (nn.Sequential,), loop)  # type: ignore[arg-type]
    parameters, activation = 4 * 4_000_000, 20_000_000
    assert (found.weights, found.optimiser, found.ema) == (parameters, 2 * parameters, parameters)
    assert 5 * activation <= found.step <= 8 * activation + parameters  # the input, four sigmoids; then gradients
    many = training_memory(build, (nn.Sequential,), LoopConfig(max_steps=1, batch_size=48)).step
    assert 48 * 5 * activation <= many <= 48 * (8 * activation + parameters), "memory of a large batch is extrapolated"
    without = LoopConfig(max_steps=1, batch_size=1, ema_decay=None)
    assert training_memory(build, (), without).ema == 0  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["vqvae", "level_0", "level_2"])
def test_the_estimate_is_near_what_a_training_of_mini_takes(
    part: str, record_property: Callable[[str, object], None]
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, str(TESTS / "helpers/processes/measured_memory.py"), part]
    done = subprocess.run(program, env=environment, check=True, capture_output=True, text=True, timeout=500)
    estimated, measured = (int(word) for word in done.stdout.split()[-2:])
    record_property("figures", f"{part}: {estimated / 1e6:.0f} MB estimated, {measured / 1e6:.0f} MB measured")
    assert estimated == pytest.approx(measured, rel=0.3)
