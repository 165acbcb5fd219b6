"""Passes, filters and schedules against golden vectors: tokens exact with recorded noise, and from the seed alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from jukebox_core.families.vampnet.masks.parts import gamma
from jukebox_core.families.vampnet.sampling.filters import nucleus, typical
from jukebox_core.families.vampnet.sampling.noise import GeneratorGridNoise
from jukebox_core.families.vampnet.sampling.passes import Scored, generate
from tests.helpers.models import vampnet as gold

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

Trace = list[tuple["Tensor", Scored]]


def check_trace(trace: Trace, arrays: dict[str, Tensor], prefix: str) -> None:
    """Compares what every pass computed."""
    for index, (logits, _) in enumerate(trace):
        if f"{prefix}.step{index:02d}.logits" in arrays:
            gold.close(logits, arrays[f"{prefix}.step{index:02d}.logits"], gold.LOGITS)
    scores = [scored for _, scored in trace]
    stacked = Scored(*(torch.stack(each) for each in zip(*scores, strict=True)))
    gold.same(stacked.count_B1, arrays[f"{prefix}.num_to_mask"])
    gold.same(stacked.masked_BN, arrays[f"{prefix}.mask_next"])
    gold.same(stacked.drawn_BN, arrays[f"{prefix}.token"])
    gold.close(stacked.probability_BN, arrays[f"{prefix}.token_prob"], gold.LOGITS)
    gold.close(stacked.confidence_BN, arrays[f"{prefix}.confidence"], gold.LOGITS)
    gold.close(stacked.threshold_B1, arrays[f"{prefix}.cut_off"], gold.LOGITS)


def made(golden: Path, role: str, arrays: dict[str, Tensor], about: dict[str, Any], prefix: str, **how: Any) -> None:
    """Compares the tokens and the trace of one case, with recorded noise where that is complete, and from the seed."""
    kwargs = about.get("kwargs", about)
    model, config = gold.transformer(golden, role), gold.passes(kwargs, **how.get("defaults", {}))
    z = arrays.get(f"{prefix}.z", arrays["z"])
    mask = how.get("mask", arrays.get(f"{prefix}.mask", arrays.get("mask")))
    tokens = arrays.get(f"{prefix}.tokens", arrays.get("tokens"))
    assert tokens is not None
    noise_of = how.get("recorded", prefix)
    complete = f"{noise_of}.step{config.steps - 1:02d}.uniform" in arrays
    for noise in [GeneratorGridNoise(), *([gold.RecordedNoise(arrays, noise_of)] if complete else [])]:
        torch.manual_seed(about["seed"])
        trace: Trace = []
        found = generate(
            model,
            z,
            None if mask is None else mask.bool(),
            config,
            noise,
            parity=how.get("parity", True),
            observe=lambda logits, scored: trace.append((logits, scored)),  # noqa: B023 - used at once
        )
        gold.same(found, tokens)
        if f"{prefix}.token" in arrays:
            check_trace(trace, arrays, prefix)


@pytest.mark.parametrize("role", gold.ROLES)
def test_every_pass(golden_vampnet: Path, role: str) -> None:
    about = gold.load(golden_vampnet / f"sampling/{role}.json")
    made(golden_vampnet, role, gold.tensors(golden_vampnet / f"sampling/{role}_main.npz"), about["main"], "main")
    torch.manual_seed(about["main"]["seed"])
    arrays = gold.tensors(golden_vampnet / f"sampling/{role}_main.npz")
    generate(
        gold.transformer(golden_vampnet, role),
        arrays["z"],
        arrays["mask"].bool(),
        gold.passes(about["main"]),
        GeneratorGridNoise(),
        parity=True,
    )
    assert torch.rand(4).tolist() == about["next4_rand_after_generate"]


@pytest.mark.parametrize("role", gold.ROLES)
def test_masks_at_the_edge(golden_vampnet: Path, role: str) -> None:
    about = gold.load(golden_vampnet / f"sampling/{role}.json")
    arrays = gold.tensors(golden_vampnet / f"sampling/{role}_edge.npz")
    for case in ("mask_none", "mask2d", "mask_zero", "mask_one"):
        mask = {"mask_none": None, "mask_zero": torch.zeros_like(arrays["z"])}.get(case, arrays.get(f"{case}.mask"))
        made(golden_vampnet, role, arrays, about[case], case, mask=mask)


@pytest.mark.parametrize("role", gold.ROLES)
def test_items_of_a_batch_depend_on_each_other_in_parity_only(golden_vampnet: Path, role: str) -> None:
    about = gold.load(golden_vampnet / f"sampling/{role}.json")["batch_parity"]
    arrays = gold.tensors(golden_vampnet / f"sampling/{role}_batch.npz")
    made(golden_vampnet, role, arrays, about, "parity")
    without = {"typical": False}
    made(golden_vampnet, role, arrays, about, "fixed_n0", recorded="parity", parity=False, defaults=without)
    assert not torch.equal(arrays["parity.tokens"], arrays["fixed_n0.tokens"])


def test_options(golden_vampnet: Path) -> None:
    arrays = gold.tensors(golden_vampnet / "sampling/options.npz")
    options, compared = gold.load(golden_vampnet / "sampling/options.json"), 0
    for option, about in options.items():
        if "cfg_guidance" not in about["kwargs"]:  # it has no effect but on the generator, and is not offered
            made(golden_vampnet, "coarse", arrays, about, option, parity="fixed" not in about)
            compared += 1
    assert compared >= len(options) - 1


def test_a_temperature_of_0_is_greedy_but_in_parity(golden_vampnet: Path) -> None:
    arrays, model = gold.tensors(golden_vampnet / "sampling/options.npz"), gold.transformer(golden_vampnet, "coarse")
    config = gold.passes({"temperature": 0.0, "mask_temperature": 0.0, "typical_filtering": False})
    results = [
        generate(
            model, arrays["z"], arrays["mask"].bool(), config, GeneratorGridNoise(torch.Generator().manual_seed(i))
        )
        for i in range(3)
    ]
    assert all(torch.equal(results[0], each) for each in results[1:])


def test_filters(golden_vampnet: Path) -> None:
    arrays = gold.tensors(golden_vampnet / "sampling/functions.npz")
    facts, logits = gold.load(golden_vampnet / "sampling/functions.json"), arrays["logits"]
    for name in facts:
        if name.startswith("typical.mass"):
            mass, least = name.removeprefix("typical.mass").split(".min")
            kept = torch.isfinite(typical(logits, float(mass), int(least)))
            if "error" in facts[name]:  # upstream reads beyond the end
                assert kept.all()
            else:
                gold.same(kept, arrays[f"{name}.kept"])
    for name in [name for name in arrays if name.startswith("top_p")]:
        top_p = float(name.removeprefix("top_p").removesuffix(".kept"))
        kept = torch.isfinite(nucleus(logits, top_p) if top_p < 1 else logits)
        gold.same(kept, arrays[name])


def test_schedule(golden_vampnet: Path) -> None:
    arrays = gold.tensors(golden_vampnet / "sampling/functions.npz")
    for name in [name for name in arrays if name.startswith("gamma.r")]:
        gold.close(gamma(arrays[name]), arrays[name.replace(".r", ".value")], 1e-6)
    table = gold.load(golden_vampnet / "sampling/functions.json")["floor_gamma_n0"]
    for name, counts in table.items():
        masked, steps = map(int, name.split("/"))
        found = [int((gamma(torch.tensor((i + 1) / steps)) * torch.tensor(masked)).floor()) for i in range(steps)]
        assert found == counts
