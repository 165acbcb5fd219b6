"""A step that learns can learn one thing by heart: one clip of sound, and one batch of codes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.composer.tune import tune
from jukebox_core.families.jukebox.checkpoints.initialise import new_vqvae
from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.training.batch import PriorBatch
from jukebox_core.families.jukebox.training.config import CodebookConfig, LossConfig
from jukebox_core.families.jukebox.training.prior import PriorStep
from jukebox_core.families.jukebox.training.vqvae import VQVAEStep
from jukebox_core.models.presets import load_preset
from jukebox_core.training.config import OptimiserConfig
from jukebox_core.training.optimiser import UpstreamAdam
from tests.helpers.models.tiny_priors import CONFIGS, VQVAE, codes_above, label_rows, tiny_codes, transformer

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


def learn(step: torch.nn.Module, batch: object, steps: int, rate: float) -> list[dict[str, float]]:
    """Returns the metrics of every step, in bits, shares and distances as the step names them."""
    optimiser, record = UpstreamAdam(step.parameters(), OptimiserConfig(learning_rate=rate)), []
    generator = torch.Generator().manual_seed(0)
    for number in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, number / 10, 2 * (1 - number / steps))
        loss, metrics = step(batch, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(step.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        record.append({name: float(value) for name, value in metrics.items()})
    return record


@pytest.mark.endurance
def test_the_vqvae_learns_one_clip(record_property: Callable[[str, object], None]) -> None:
    config = load_preset("mini").config
    clip = torch.from_numpy(tune(1.25, config.vqvae.sample_rate)[-config.vqvae.sample_rate // 4 :].copy())[None]
    vqvae = new_vqvae(config, 0).train().requires_grad_(requires_grad=True)
    step = VQVAEStep(vqvae, LossConfig(), CodebookConfig(threshold_ema_dead_code=0.1)).train()
    record = learn(step, clip, 300, 2e-3)
    begin, end = record[0]["spectral_convergence"], record[-1]["spectral_convergence"]
    record_property("figures", f"spectral convergence of one clip: {begin:.3f}, after 300 steps {end:.3f}")
    assert end * 5 < begin


@pytest.mark.parametrize("kind", ["upsampler", "lyrics", "one_sequence"])
def test_a_prior_learns_one_batch(kind: str, record_property: Callable[[str, object], None]) -> None:
    sizes = CONFIGS[kind].transformer
    wider = transformer(width=64, depth=min(sizes.depth, 16), attention_order=sizes.attention_order)
    torch.manual_seed(0)
    prior = Prior(replace(CONFIGS[kind], transformer=wider), VQVAE)
    batch = PriorBatch(tiny_codes(prior, 2), label_rows(prior, 2), codes_above(prior, 2), torch.full((2, 2), torch.nan))
    record = learn(PriorStep(prior), batch, 300, 5e-3)
    record_property(
        "figures", f"{kind}: {record[0]['bits']:.2f} bits a token, after 300 steps {record[-1]['bits']:.4f}"
    )
    assert record[0]["bits"] > 4
    assert record[-1]["bits"] < 0.1
