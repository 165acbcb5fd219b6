"""From a model and a recipe to the networks that extraction needs, checked before any weights are read. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import ConfigError
from jukebox_core.features.clips import fixed_total
from jukebox_core.features.extract import Networks
from jukebox_core.protocols import FeatureFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from jukebox_core.features.config import FeatureConfig, FeatureSizes
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.protocols import Codec, FeatureExtractor

_BATCH_CODES = 8192  # of a forward pass: enough for long matrix products, and small enough for any memory


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


def connect(
    model: ModelSettings,
    recipe: FeatureConfig,
    vocabularies: Mapping[str, Path],
    *,
    codec: Callable[[], Codec],
    extractor: FeatureExtractor | None,
    batch: int | None = None,
) -> Networks:
    """Returns the networks of a recipe.

    Args:
        model: the model.
        recipe: fits it (`plan_features`).
        vocabularies: files by role.
        codec: returns the codec; called when audio is encoded.
        extractor: the first layers of the network; None for codes alone.
        batch: windows of one forward pass; None: as many as fill a window of the largest models.
    """
    plan, config = plan_features(model, recipe), model.config

    def conditioning(song: Any, total: int, offset: int) -> Any:
        return plan.family.condition_window(config, plan.sizes.level, song, vocabularies, total=total, offset=offset)

    return Networks(
        config=recipe,
        sizes=plan.sizes,
        hops=config.hops,
        bins=config.bins,
        codec=codec,
        extractor=extractor,
        conditioning=conditioning,
        batch=batch or max(1, _BATCH_CODES // plan.sizes.context),
        needs_above=plan.needs_above,
    )
