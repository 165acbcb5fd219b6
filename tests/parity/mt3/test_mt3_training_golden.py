"""The training step of MT3 models against the golden vectors `t5` and `segmem`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.families.mt3.checkpoints.loading import load_model
from jukebox_core.families.mt3.training.excerpts import Batch
from jukebox_core.families.mt3.training.step import TranscriberStep
from tests.helpers.models.mt3 import bundles, checkpoint_in, load, network, tensors

if TYPE_CHECKING:
    from pathlib import Path

LOSS_RTOL = 1e-5
_NOTHING = torch.zeros(0)


@torch.no_grad()
def test_the_loss_of_a_step(golden_mt3: Path) -> None:
    checked = 0
    for folder in bundles(golden_mt3, "t5.json"):
        data, io = load(folder / "t5.json"), tensors(folder / "io.npz")
        step = TranscriberStep(load_model(network(data["config"]), checkpoint_in(folder)), 0.0, 2)
        for name, case in data["cases"].items():
            if "train_loss" in case:
                batch = Batch(io[f"{name}.inputs"], io[f"{name}.train.labels"], _NOTHING, _NOTHING)
                assert step(batch)[0].item() == pytest.approx(case["train_loss"], rel=LOSS_RTOL)
                checked += 1
    assert checked


@torch.no_grad()
def test_the_loss_of_a_step_with_a_memory(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "segmem.json"):
        data, io = load(folder / "segmem.json"), tensors(folder / "io.npz")
        before = io["train.targets_prev"].clamp(min=0)
        for key in [key for key in data if key.startswith("train_loss_L")]:
            model = load_model(network(data["config"], int(key.rpartition("L")[2])), checkpoint_in(folder))
            batch = Batch(io["train.inputs"], io["train.labels"], before, _NOTHING)
            assert TranscriberStep(model, 0.0, 1)(batch)[0].item() == pytest.approx(data[key], rel=LOSS_RTOL), key
