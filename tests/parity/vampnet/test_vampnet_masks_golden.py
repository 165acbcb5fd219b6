"""Masks against golden vectors: from the seed, and with recorded draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.vampnet.masks import parts
from jukebox_core.families.vampnet.masks.beats import beat_mask
from jukebox_core.families.vampnet.masks.build import build_mask
from jukebox_core.families.vampnet.masks.config import BeatConfig, MaskConfig
from jukebox_core.families.vampnet.masks.draws import GeneratorDraws
from tests.helpers.models import vampnet as gold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.vampnet.config import CodecConfig
    from jukebox_core.families.vampnet.masks.draws import MaskDraws

# Functions of upstream's experiments with training, which nothing here uses.
NOT_BUILT = {
    "newmask.stemgen_random",
    "newmask.hugo_random",
    "newmask.random_along_time",
    "newmask.drop_ones",
    "newmask.tria_mask",
}
_BUILD = {
    "rand_mask_intensity": "random",
    "prefix_s": "prefix_seconds",
    "suffix_s": "suffix_seconds",
    "periodic_prompt": "period",
    "periodic_prompt_width": "period_width",
    "onset_mask_width": "onset_width",
    "_dropout": "dropout",
    "upper_codebook_mask": "upper_codebook_mask",
    "ncc": "keep_codebooks",
}
_BEATS = {
    "before_beat_s": "before_seconds",
    "after_beat_s": "after_seconds",
    "mask_upbeats": "upbeats",
    "mask_downbeats": "downbeats",
    "beat_downsample_factor": "every",
    "downbeat_downsample_factor": "every_downbeat",
    "dropout": "dropout",
}


@dataclass
class Bundle:
    cases: dict[str, Any]
    arrays: Mapping[str, Tensor]
    codec: CodecConfig
    shape: parts.Shape
    beats: dict[str, Any]
    frames: int = 0

    def make(self, case: str, draws: MaskDraws) -> list[Tensor]:
        """The outputs of a case of upstream."""
        kind, args = case.removeprefix("newmask.").split(".")[0], self.cases[case]["args"]
        made: Callable[..., Any] = getattr(self, f"_{kind}", None) or self._edit
        found = made(case, args, draws)
        return list(found) if isinstance(found, tuple) else [found]

    def _linear_random(self, case: str, args: dict[str, Any], draws: MaskDraws) -> Tensor:
        made = parts.random if case.startswith("random") else parts.linear_random
        ratio = self.arrays.get(f"{case}.r", args["r"])
        return made(self.shape, ratio, draws)

    _random = _linear_random

    def _inpaint(self, case: str, args: dict[str, Any], draws: MaskDraws) -> Tensor:
        return parts.inpaint(self.shape, args["n_prefix"], args["n_suffix"])

    def _periodic(self, case: str, args: dict[str, Any], draws: MaskDraws) -> Tensor:
        return parts.periodic(
            self.shape, args["period"], args.get("width", 1), draws, roll=args.get("random_roll", False)
        )

    def _periodic_roll_ignored(self, case: str, args: dict[str, Any], draws: MaskDraws) -> Tensor:
        return parts.periodic(self.shape, args["period"], args["width"], draws)

    def _time_stretch_mask(self, case: str, args: dict[str, Any], draws: MaskDraws) -> Tensor:
        return parts.periodic(self.shape, args["stretch_factor"], 1, draws)

    def _onset(self, case: str, args: dict[str, Any], draws: MaskDraws) -> Tensor:
        shape = tuple(self.arrays[f"{case}.out"].shape)
        return parts.onsets(shape, args["frames"], args["width"], parity=True)  # type: ignore[arg-type]

    _onset_real = _onset

    def _build_mask(self, case: str, args: dict[str, Any], draws: MaskDraws) -> Tensor:
        config = MaskConfig(**{_BUILD[name]: value for name, value in args.items() if name in _BUILD})
        config = replace(config, onsets=tuple(args.get("onset_frames", ())))
        return build_mask(self.shape, config, self.codec, draws, parity=True)

    def _beat_mask(self, case: str, args: dict[str, Any], draws: MaskDraws) -> Tensor:
        config = BeatConfig(
            **{_BEATS[name]: value for name, value in args.items() if name in _BEATS},
            invert=not args.get("invert", True),
            times=tuple(self.beats["beats_s"]),
            bars=tuple(self.beats["downbeats_s"]),
        )
        steps = self.codec.tokens_of(self.beats["signal_samples"] / self.codec.sample_rate)
        shape = (1, self.arrays["codes"].shape[1], steps)
        codec = replace(self.codec, sample_rate=self.beats["sample_rate"])
        return beat_mask(shape, config, codec, draws, parity=True)

    def _edit(self, case: str, args: dict[str, Any], draws: MaskDraws) -> Tensor | tuple[Tensor, ...]:
        base = self.arrays["base_mask"].bool()
        match case.split("."):
            case ["dropout", *_]:
                return parts.dropout(base, args["p"], draws)
            case ["codebook_unmask", *_]:
                return parts.keep_books(base, args["n_conditioning_codebooks"] or 0)
            case ["codebook_mask", *_]:
                return parts.mask_books(base, args["val1"])
            case ["mask_and"]:
                return base & self.arrays["base_mask2"].bool()
            case ["mask_or"]:
                return base | self.arrays["base_mask2"].bool()
            case ["apply_mask"]:
                return parts.apply(self.arrays["codes"], base, args["mask_token"]), base
            case ["full_mask"]:
                return torch.ones(self.shape)
            case ["empty_mask"]:
                return torch.zeros(self.shape)
        raise AssertionError(f"{case} is unknown")


@pytest.fixture(scope="module")
def bundle(golden_vampnet: Path) -> Bundle:
    about = gold.load(golden_vampnet / "masks/masks.json")
    arrays, codec = gold.tensors(golden_vampnet / "masks/masks.npz"), gold.codec(golden_vampnet).config
    return Bundle(about["cases"], arrays, codec, tuple(about["shape"]), about["beats"])


def expected(bundle: Bundle, case: str) -> list[Tensor]:
    names = [f"{case}.out", *(f"{case}.out{index}" for index in range(2))]
    return [bundle.arrays[name] for name in names if name in bundle.arrays]


def test_from_the_seed(bundle: Bundle) -> None:
    compared = 0
    for case, about in bundle.cases.items():
        if case.rsplit(".r0", 1)[0] in NOT_BUILT:
            continue
        torch.manual_seed(about["seed"])
        if "error" in about:
            with pytest.raises((ConfigError, TypeError)):  # upstream fails too: a factor of 0, a period for each item
                bundle.make(case, GeneratorDraws())
            continue
        for found, wanted in zip(bundle.make(case, GeneratorDraws()), expected(bundle, case), strict=True):
            gold.same(found, wanted)
            compared += 1
    assert compared >= len(bundle.cases) - len(NOT_BUILT) - 8


class Recorded:
    """The draws that upstream made, of which the probabilities are compared and the rest is fed."""

    def __init__(self, arrays: Mapping[str, Tensor], draws: list[Any], case: str) -> None:
        self._uniforms = [arrays[name] for index in range(200) if (name := f"{case}.draw{index}") in arrays]
        self._integers = [each["values"] for each in draws if isinstance(each, dict) and each["kind"] == "randint"]

    def bernoulli(self, probability: Tensor) -> Tensor:
        drawn = self._uniforms.pop(0) if self._uniforms else torch.zeros(probability.shape)
        assert drawn.shape == probability.shape
        return drawn < probability

    def integers(self, high: int, count: int) -> list[int]:
        values: list[int] = self._integers.pop(0)
        assert len(values) == count
        return values


def test_with_recorded_draws(bundle: Bundle) -> None:
    compared = 0
    for case in bundle.cases:
        kind = case.split(".")[0]
        if kind in ("linear_random", "random", "dropout", "build_mask"):
            recorded = Recorded(bundle.arrays, bundle.cases[case]["draws"], case)
            for found, wanted in zip(bundle.make(case, recorded), expected(bundle, case), strict=True):
                gold.same(found, wanted)
                compared += 1
    assert compared > 20


def test_onsets_and_beats_near_the_beginning_are_kept_but_in_parity() -> None:
    shape = (1, 2, 12)
    assert parts.onsets(shape, [1], 3, parity=True).all()
    assert parts.onsets(shape, [1], 3)[0, 0].tolist() == [False] * 4 + [True] * 8
    codec = gold.CodecConfig(sample_rate=100, decoder_rates=(10,), encoder_rates=(10,))
    config = BeatConfig(times=(0.1,), before_seconds=0.2, after_seconds=0.1)
    for parity, kept in ((True, 0), (False, 2)):
        made = beat_mask(shape, config, codec, GeneratorDraws.of_seed(0), parity=parity)
        assert int((~made[0, 0]).sum()) == kept
