"""The golden features: arrays, recordings, and the networks of the recipes (docs/features.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import torch

from jukebox_core.families.jukebox.features.extractor import PriorExtractor
from jukebox_core.families.jukebox.features.labels import feature_sizes, label_row
from jukebox_core.families.jukebox.sampling.codec import VQVAECodec
from jukebox_core.features.extract import Networks, Recording, extract
from jukebox_core.features.presets import load_recipe
from tests.helpers.models import zoo
from tests.helpers.models.golden_priors import need, read_prior, read_vqvae

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.features.config import FeatureConfig

    Arrays = dict[str, NDArray[Any]]

RECIPES_MODEL = "5b"  # which all recipes use


def arrays(golden: Path, name: str) -> Arrays:
    with np.load(need(golden / f"features/{name}.npz")) as found:
        return dict(found)


def same(found: NDArray[Any], expected: NDArray[Any], what: str, *, atol: float = 2e-5, rtol: float = 1e-4) -> None:
    assert found.shape == expected.shape, what
    np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), rtol, atol, err_msg=what)


def wav(golden: Path, name: str) -> NDArray[np.float32]:
    samples, _ = soundfile.read(need(golden / f"features/wav/{name}.wav"), dtype="float32", always_2d=True)
    return samples.mean(axis=1, dtype=np.float32)


def recipe(about: dict[str, Any], name: str, **changes: Any) -> FeatureConfig:
    """The shipped recipe, with the lengths and the layer of the golden models."""
    sizes = about["constants"]
    rate = sizes["code_rate"] * sizes["hop"]
    shipped = load_recipe(name)
    if shipped.fixed_seconds is not None:
        changes.setdefault("fixed_seconds", float(sizes["fixed_total_seconds"]))
    if shipped.encode_seconds is not None:
        changes.setdefault("encode_seconds", sizes["encode_first_samples"] / rate)
    if shipped.shortest_seconds is not None:
        changes |= {
            "shortest_seconds": sizes["sheetsage_min_total_samples"] / rate,
            "longest_seconds": sizes["sheetsage_max_total_samples"] / rate,
        }
    if "layer" in about["cases"].get(name, {}):
        changes.setdefault("layers", (about["cases"][name]["layer"],))
    return replace(shipped, **changes)


class GoldenNetworks:
    """Networks of a recipe, with the rows of labels that they were conditioned on."""

    def __init__(self, golden: Path, vocabularies: dict[str, Path]) -> None:
        self.golden, self.vocabularies = golden, vocabularies
        self.config = zoo.config(golden, RECIPES_MODEL)
        self.sizes = feature_sizes(self.config, self.config.top)
        self.codes = f"codes{self.config.top}"  # name of the array of top-level codes
        self.rows: list[tuple[int, ...]] = []

    def __call__(self, chosen: FeatureConfig, dtype: torch.dtype = torch.float32, batch: int = 1) -> Networks:
        config, self.rows = self.config, []

        def conditioning(song: Any, total: int, offset: int) -> tuple[int, ...]:
            self.rows.append(label_row(config, config.top, song, self.vocabularies, total=total, offset=offset))
            return self.rows[-1]

        return Networks(
            config=chosen,
            sizes=self.sizes,
            hops=config.hops,
            bins=config.bins,
            codec=lambda: VQVAECodec(read_vqvae(self.golden)),
            extractor=PriorExtractor(read_prior(self.golden, "p5b", dtype)),
            conditioning=conditioning,
            batch=batch,
        )


def run(networks: Networks, *recordings: Recording) -> list[Arrays]:
    found = dict(extract(recordings, networks))
    for each in found.values():
        assert isinstance(each, dict), each
    return [found[index] for index in range(len(recordings))]


def one(networks: Networks, audio: NDArray[np.float32], **more: Any) -> Arrays:
    return run(networks, Recording(audio=audio, **more))[0]
