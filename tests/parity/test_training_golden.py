"""Training steps against the original's numbers (docs/upstream.md, Training; bundles `training`)."""

from __future__ import annotations

import copy
import json
import math
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from jukebox_core.families.jukebox.checkpoints.renames import VQVAE_RENAMES
from jukebox_core.families.jukebox.training.config import Bandwidths, CodebookConfig, LossConfig
from jukebox_core.families.jukebox.training.vqvae import VQVAEStep
from jukebox_core.training.config import OptimiserConfig, ScheduleConfig
from jukebox_core.training.optimiser import UpstreamAdam, lr_factor
from tests.helpers.models.golden_priors import read_vqvae

if TYPE_CHECKING:
    from pathlib import Path

METRIC_RTOL = 1e-4
TENSOR = {"atol": 2e-5, "rtol": 1e-4}


def _ours(name: str) -> str:
    return next(re.sub(old, new, name) for old, new in VQVAE_RENAMES if re.fullmatch(old, name))


@pytest.mark.parametrize("case", ["restored", "fresh"])
def test_vqvae_steps(golden: Path, case: str) -> None:
    """Loss, every metric, gradients, codebooks, draws and weights of two steps with the optimiser between them."""
    path = golden / f"training/vqvae_{case}"
    if not path.with_suffix(".npz").is_file():
        pytest.skip(f"{path} is absent")
    recorded = json.loads(path.with_suffix(".json").read_text())
    with np.load(path.with_suffix(".npz")) as arrays:
        expected = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    protocol, audio_BT = recorded["protocol"], expected["x"][..., 0]
    vqvae = copy.deepcopy(read_vqvae(golden))
    vqvae.train().requires_grad_(requires_grad=True)
    bins = vqvae.config.bins
    trained = [tokens / bins for tokens in protocol["k_restore_num_tokens"]] if protocol["restored"] else None
    step = VQVAEStep(
        vqvae,
        LossConfig(bandwidths=Bandwidths(**recorded["bandwidth"])),
        CodebookConfig(ema_decay=protocol["mu"], threshold_ema_dead_code=protocol["threshold"]),
        expected_counts=trained,
    ).train()
    config = OptimiserConfig(
        learning_rate=protocol["lr"],
        weight_decay=protocol["weight_decay"],
        betas=tuple(protocol["betas"]),
        epsilon=protocol["eps"],
        max_grad_norm=protocol["clip"],
    )
    optimiser = UpstreamAdam(vqvae.parameters(), config)
    for number, record in enumerate(recorded["steps"]):
        optimiser.zero_grad()
        torch.manual_seed(record["seed"])
        loss, metrics = step(audio_BT)
        assert torch.rand(4).equal(expected[f"step{number}.next4_uniform_after_forward"])
        loss.backward()
        assert math.isclose(loss.item(), record["loss"], rel_tol=METRIC_RTOL)
        for name, value in record["metrics"].items():
            assert math.isclose(metrics[name].item(), value, rel_tol=METRIC_RTOL, abs_tol=1e-6), name
        parameters = dict(vqvae.named_parameters())
        for name, value in record["grads"].items():
            norm = parameters[_ours(name)].grad.double().norm().item()
            assert math.isclose(norm, value["norm"], rel_tol=1e-3, abs_tol=1e-5), name
        for level, (codec, learner) in enumerate(zip(vqvae.levels, step.learners, strict=True)):
            found = {"k": codec.codebook, "k_sum": learner.sums_VC, "k_elem": learner.counts_V}
            for name, tensor in found.items():
                torch.testing.assert_close(tensor, expected[f"step{number}.l{level}.{name}"], **TENSOR)
        norm = torch.nn.utils.clip_grad_norm_(vqvae.parameters(), config.max_grad_norm)
        assert math.isclose(norm.item(), record["grad_norm"], rel_tol=METRIC_RTOL)
        optimiser.step()
        for name, value in record["param_norm_after"].items():
            assert math.isclose(parameters[_ours(name)].norm().item(), value, rel_tol=METRIC_RTOL), name
    for name, tensor in expected.items():
        if name.startswith("final_param."):
            torch.testing.assert_close(parameters[_ours(name.removeprefix("final_param."))], tensor, **TENSOR)


def test_learning_rates(golden: Path) -> None:
    path = golden / "training/lr_schedule.json"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    for case in json.loads(path.read_text()):
        settings = {"lr_warmup": 100.0, "lr_decay": 1e10, "lr_gamma": 1.0, "lr_scale": 1.0} | case["overrides"]
        schedule = ScheduleConfig(
            warmup_steps=int(settings["lr_warmup"]),
            kind="linear" if settings.get("lr_use_linear_decay") else "step",
            decay_start=settings.get("lr_start_linear_decay", 0),
            decay_steps=int(settings["lr_decay"]),
            gamma=settings["lr_gamma"],
        )
        for step, rate in case["steps"].items():
            found = case["lr"] * settings["lr_scale"] * lr_factor(int(step), schedule)
            assert math.isclose(found, rate, rel_tol=1e-6, abs_tol=1e-12), (case["overrides"], step)
