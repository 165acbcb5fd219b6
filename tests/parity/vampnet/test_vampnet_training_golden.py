"""Training of the transformers against golden vectors: masks, losses, gradients, learning rates, updates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch

from jukebox_core.families.vampnet.checkpoints.loading import load_transformer
from jukebox_core.families.vampnet.checkpoints.renames import upstream_name
from jukebox_core.families.vampnet.masks.draws import GeneratorDraws
from jukebox_core.families.vampnet.masks.parts import apply
from jukebox_core.families.vampnet.model.lora import train_only_lora
from jukebox_core.families.vampnet.training.loss import LABEL_SMOOTHING, masked_loss
from jukebox_core.families.vampnet.training.masking import MaskRatios, training_mask
from jukebox_core.models.presets import option_data, option_path
from jukebox_core.training.config import OptimiserConfig, ScheduleConfig
from jukebox_core.training.optimiser import lr_factor, make_optimiser
from tests.helpers.models import vampnet as gold

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.vampnet.model.transformer import VampTransformer

MAX_GRAD_NORM = option_data(option_path("vampnet_finetune", "training"), "training")["coarse"]["optimiser"][
    "max_grad_norm"
]
LOSS_RTOL, NORM_RTOL = 2e-6, 1e-4


def tuned(golden: Path, role: str) -> VampTransformer:
    path = gold.need(golden / f"models/vampnet/loras/tiny/{role}.pth")
    return load_transformer(path, gold.codec(golden), merge=False)


def peak(width: int, factor: float, warmup: int) -> float:
    """The rate at the end of the warm-up, as upstream's factor means it."""
    return float(factor * (width * warmup) ** -0.5)


def loss_of(model: VampTransformer, codes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(apply(codes, mask, model.config.mask_id))
    return logits, masked_loss(logits, codes, mask, model.config)


def check_norms(found: dict[str, Tensor], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, about in expected.items():
        assert found[name].norm().item() == pytest.approx(about["norm"], rel=NORM_RTOL, abs=1e-6), name


@pytest.mark.parametrize("role", gold.ROLES)
def test_three_updates(golden_vampnet: Path, role: str) -> None:
    facts = gold.load(golden_vampnet / f"training/{role}.json")
    arrays, model = gold.tensors(golden_vampnet / f"training/{role}.npz"), tuned(golden_vampnet, role)
    assert (facts["label_smoothing"], facts["clip"]) == (LABEL_SMOOTHING, MAX_GRAD_NORM)
    names = train_only_lora(model)
    assert len(names) == facts["n_trainable_tensors"]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    config = OptimiserConfig(
        kind="adamw",
        learning_rate=peak(model.config.embedding_dim, facts["factor"], facts["warmup"]),
        betas=tuple(facts["betas"]),
        epsilon=facts["eps"],
        weight_decay=facts["weight_decay"],
    )
    optimiser, schedule = make_optimiser(trained, config), ScheduleConfig(kind="noam", warmup_steps=facts["warmup"])
    for index, about in enumerate(facts["steps"]):
        mask = training_mask_of(arrays, about, model)
        gold.same(mask, arrays[f"step{index}.mask"])
        logits, loss = loss_of(model, arrays["z"], mask)
        if f"step{index}.logits" in arrays:
            gold.close(logits.mT, arrays[f"step{index}.logits"], gold.LOGITS)
        assert loss.item() == pytest.approx(about["loss"], rel=LOSS_RTOL)
        loss.backward()
        if about["grads"]:
            check_norms(gradients(model), about["grads"])
        norm = torch.nn.utils.clip_grad_norm_(trained, facts["clip"])
        assert norm.item() == pytest.approx(about["grad_norm"], rel=NORM_RTOL)
        rate = config.learning_rate * lr_factor(index, schedule)
        assert rate == pytest.approx(about["lr"], rel=1e-9)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        for name, wanted in (about["lora_param_norms_after"] or {}).items():
            [own] = [each for each in names if upstream_name(each) == name]
            assert model.get_parameter(own).norm().item() == pytest.approx(wanted, rel=NORM_RTOL)


def training_mask_of(arrays: dict[str, Tensor], about: dict[str, Any], model: VampTransformer) -> Tensor:
    torch.manual_seed(about["mask_seed"])
    return training_mask(arrays["z"], arrays["r"], model.config, GeneratorDraws())


def gradients(model: VampTransformer) -> dict[str, Tensor]:
    return {upstream_name(name): each.grad for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("role", gold.ROLES)
def test_gradients_of_all_parameters(golden_vampnet: Path, role: str) -> None:
    facts = gold.load(golden_vampnet / f"training/{role}.json")
    arrays, model = gold.tensors(golden_vampnet / f"training/{role}.npz"), tuned(golden_vampnet, role)
    assert all(parameter.requires_grad for parameter in model.parameters())
    _, loss = loss_of(model, arrays["z"], arrays["step0.mask"].bool())
    loss.backward()
    check_norms(gradients(model), facts["full_gradients_step0"])


def test_learning_rates_and_ratios(golden_vampnet: Path) -> None:
    for role in gold.ROLES:
        facts = gold.load(golden_vampnet / f"training/{role}.json")
        for name in [name for name in facts if name.startswith("noam_")]:
            width, factor, warmup = map(int, re.findall(r"\d+", name))
            for step, rate in facts[name].items():
                found = lr_factor(max(int(step), 1) - 1, ScheduleConfig(kind="noam", warmup_steps=warmup))
                assert peak(width, factor, warmup) * found == pytest.approx(rate, rel=1e-9, abs=1e-9)
        for name in [name for name in facts if name.startswith("sobol")]:
            seed = int(name.split("seed")[1].split("_")[0])
            whole = MaskRatios(seed).draw(len(facts[name]))
            assert whole.tolist() == pytest.approx(facts[name])
            assert MaskRatios(seed, drawn=3).draw(2).tolist() == whole[3:5].tolist()
