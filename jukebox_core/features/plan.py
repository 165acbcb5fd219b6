"""How a recipe is computed with a model, checked without any file. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jukebox_core.errors import ConfigError
from jukebox_core.protocols import FeatureFamily

if TYPE_CHECKING:
    from jukebox_core.features.config import FeatureConfig, FeatureSizes
    from jukebox_core.models.presets import ModelSettings

ROUNDING = 1e-6  # of a sample: rounding error of a decimal number of seconds


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """A recipe that fits a model: the sizes and the role of the network, and how deep it is read."""

    family: FeatureFamily
    sizes: FeatureSizes
    roles: tuple[str, ...]  # of the weights that are read, the codec's first
    layers: tuple[int, ...]  # counted from 1, ascending
    deepest: int  # 0: the recipe takes codes alone
    needs_above: bool  # the network reads the codes of the level above


def plan_features(model: ModelSettings, recipe: FeatureConfig) -> FeaturePlan:
    """Returns how a recipe is computed with a model.

    Raises:
        ConfigError: the model's family has no features, or the model lacks a layer, a level or a length of song.
    """
    family, config = model.opened, model.config
    if not isinstance(family, FeatureFamily):
        raise ConfigError(
            f"model {model.name} is of the family {model.family}, which gives no features; choose another model"
        )
    levels = len(config.hops)
    level = recipe.chosen_level(levels)
    sizes = family.feature_sizes(config, level)
    recipe.chosen_codes(levels)
    layers = recipe.chosen_layers(sizes) if recipe.needs_network else ()
    deepest = sizes.depth if recipe.final else max(layers, default=0)
    if recipe.needs_network and recipe.timing == "fixed":
        fixed_total(recipe, sizes)
    roles = (family.codec_role, *([family.role_of(level)] if deepest else []))
    return FeaturePlan(family, sizes, roles, layers, deepest, bool(deepest) and level < config.top)


def fixed_total(config: FeatureConfig, sizes: FeatureSizes) -> int:
    """Returns the total length that a recipe with fixed timing claims, in whole codes' samples.

    Raises:
        ConfigError: the network does not know songs of that length.
    """
    total = sizes.whole(int((config.fixed_seconds or 0) * sizes.rate + ROUNDING))
    if not sizes.shortest <= total < sizes.longest or sizes.context * sizes.hop > sizes.longest:
        raise ConfigError(
            f"fixed_seconds is {config.fixed_seconds:g}, but this model knows songs from "
            f"{sizes.shortest / sizes.rate:g} s to just under {sizes.longest / sizes.rate:g} s; "
            "set it within that, or choose timing=song"
        )
    return total
