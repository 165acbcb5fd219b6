"""Whole pieces against golden vectors: chunks, rounds, stretching, and from sound to sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import soundfile
import torch

from jukebox_core.families.vampnet.masks.build import build_mask
from jukebox_core.families.vampnet.masks.config import MaskConfig
from jukebox_core.families.vampnet.masks.draws import GeneratorDraws
from jukebox_core.families.vampnet.sampling.config import PassConfig, VampSampling
from jukebox_core.families.vampnet.sampling.interface import Interface, expanded, rolled
from jukebox_core.families.vampnet.sampling.noise import GeneratorGridNoise
from jukebox_core.families.vampnet.sound.front_end import prepare
from tests.helpers.models import vampnet as gold

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.vampnet.sampling.interface import Call
    from jukebox_core.families.vampnet.sampling.noise import GridNoise

C2F_OF_A_VARIATION = PassConfig(steps=2)


class Upstream:
    """Noise as upstream draws it: one generator, seeded again for each chunk of the coarse model if a seed is given."""

    def __init__(self, seed: int | None = None, arrays: dict[str, Tensor] | None = None, prefix: str = "") -> None:
        self._seed, self._arrays, self._prefix, self.calls = seed, arrays, prefix, 0

    def __call__(self, call: Call) -> GridNoise:
        if self._seed is not None and call.role == "coarse":
            torch.manual_seed(self._seed)
        self.calls += 1
        if self._arrays is None:
            return GeneratorGridNoise()
        return gold.RecordedNoise(self._arrays, f"{self._prefix}.call{self.calls - 1}")


def opened(golden: Path, *, lora: bool = False) -> Interface:
    sizes = gold.load(golden / "interface/interface.json")
    return gold.interface(golden, sizes["chunk_coarse_tokens"], sizes["chunk_c2f_tokens"], lora=lora)


def test_every_case(golden_vampnet: Path) -> None:
    arrays = gold.tensors(golden_vampnet / "interface/interface.npz")
    cases, compared = gold.load(golden_vampnet / "interface/interface.json")["cases"], 0
    for case, about in cases.items():
        if "error" in about:
            continue  # upstream cannot show a mask that it was not given; here all is shown as masked
        kind, kwargs, wanted = case.split(".")[0], about["kwargs"], arrays[f"{case}.out"]
        factor = kwargs.get("time_stretch_factor", 1)
        steps = wanted.shape[-1] // factor
        mask = {"first_chunk_all_masked": "mask_chunk_all_ones", "partial_fine": "mask_partial_fine"}
        z = arrays["z"][..., :steps]
        m: Any = arrays[mask.get(case.split(".")[1], "mask")][..., :steps].bool()
        model = opened(golden_vampnet, lora="lora" in case)
        sampling = VampSampling(
            n_samples=kwargs.get("batch_size", 1),
            feedback=kwargs.get("feedback_steps", 1),
            parity=True,
            coarse=gold.passes(kwargs),
            c2f=gold.passes(kwargs) if kind == "c2f" else C2F_OF_A_VARIATION,
        )
        noise = Upstream(kwargs.get("seed"))
        torch.manual_seed(about["seed"])
        if kind == "c2f":
            books = model.coarse.config.n_codebooks if "coarse_books" in case else z.shape[1]
            m = m if about["calls"][0]["mask_given"] else None
            found, shown = model.fine_chunks(z[:, :books], m, sampling, noise)
        elif kind == "coarse_vamp":
            found, shown = model.coarse_chunks(z, m, sampling, noise)
        else:
            found, shown = model.vary(*expanded(z, m, sampling, factor), sampling, noise)
        gold.same(found, wanted)
        if f"{case}.out_mask" in arrays:
            gold.same(shown, arrays[f"{case}.out_mask"])
        assert noise.calls == len(about["calls"])
        compared += 1
    assert compared >= len(cases) - 1


@torch.no_grad()
def test_from_sound_to_sound(golden_vampnet: Path) -> None:
    arrays = gold.tensors(golden_vampnet / "pipeline/io.npz")
    facts = gold.load(golden_vampnet / "pipeline/pipeline.json")
    about, model = facts["input"], opened(golden_vampnet)
    samples, rate = soundfile.read(gold.need(golden_vampnet / "pipeline" / about["file"]), dtype="float32")
    assert (rate, samples.shape) == (about["sample_rate"], (about["samples"], about["channels"]))
    prepared = prepare(torch.from_numpy(samples.T.copy())[None], rate, model.codec.config)
    assert prepared.loudness_B == pytest.approx(facts["lufs_before"], abs=gold.LOUDNESS)
    gold.close(prepared.audio_B1T, arrays["preprocessed"], gold.AUDIO)
    codes = model.codec.encode(prepared.audio_B1T).codes_BKT
    gold.same(codes, arrays["codes"])
    torch.manual_seed(facts["build_mask"]["seed"])
    mask = built(model, codes, facts["build_mask"])
    gold.same(mask, arrays["mask"])
    for case in [name for name in facts if isinstance(facts[name], dict) and "calls" in facts[name]]:
        stored = f"{case}.call0.step00.uniform" in arrays
        sampling = VampSampling(parity=True, coarse=gold.passes(facts[case]["kwargs"]), c2f=C2F_OF_A_VARIATION)
        for noise in [Upstream(), *([Upstream(None, arrays, case)] if stored else [])]:
            torch.manual_seed(facts[case]["seed"])
            made = model.vary(codes, mask, sampling, noise)
            gold.same(made.codes_BKT, arrays[f"{case}.tokens"])
            gold.same(made.shown_BKT, arrays[f"{case}.mask_tokens"])
        heard = model.decode(made.codes_BKT, parity=True)
        gold.close(heard[..., : arrays[f"{case}.audio"].shape[-1]], arrays[f"{case}.audio"], gold.AUDIO)
    torch.manual_seed(facts["one_seed"]["seed"])
    mask = built(model, codes, facts["one_seed"]["build_mask"])
    gold.same(mask, arrays["one_seed.mask"])
    sampling = VampSampling(parity=True, coarse=gold.passes(facts["one_seed"]["vamp"]), c2f=C2F_OF_A_VARIATION)
    gold.same(model.vary(codes, mask, sampling, Upstream()).codes_BKT, arrays["one_seed.tokens"])


def built(model: Interface, codes: Tensor, args: dict[str, Any]) -> Tensor:
    default = MaskConfig()
    config = MaskConfig(
        period=args["periodic_prompt"],
        upper_codebook_mask=args.get("upper_codebook_mask", default.upper_codebook_mask),
    )
    return build_mask(tuple(codes.shape), config, model.codec.config, GeneratorDraws(), parity=True)  # type: ignore[arg-type]


def test_rounds_move_the_mask_but_in_parity(golden_vampnet: Path) -> None:
    """Upstream moves what it shows of the mask, so that all of its rounds have the same one."""
    arrays, model = gold.tensors(golden_vampnet / "interface/interface.npz"), opened(golden_vampnet)
    z, mask = arrays["z"], arrays["mask"].bool()
    edges = torch.zeros(z.shape[-1], dtype=torch.bool)
    for parity in (True, False):
        seen: list[Tensor] = []
        sampling = VampSampling(parity=parity, feedback=3, coarse=PassConfig(steps=1), c2f=C2F_OF_A_VARIATION)
        given = mask
        for index in range(3):
            seen.append(given)
            given = given if parity else rolled(given, index, 3)
        torch.manual_seed(0)
        found = model.vary(z, mask, sampling, Upstream()).codes_BKT
        kept = ~torch.stack(seen)[:, :, : model.coarse.config.n_codebooks].any(0) & ~edges
        assert torch.equal(found[:, : kept.shape[1]][kept], z[:, : kept.shape[1]][kept])
        assert all(torch.equal(each, mask) for each in seen) is parity
