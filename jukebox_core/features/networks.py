"""The networks of a recipe, as extraction needs them. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.features.extract import Networks
from jukebox_core.features.plan import plan_features

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from jukebox_core.features.config import FeatureConfig
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.protocols import Codec, FeatureExtractor

_BATCH_CODES = 8192  # of a forward pass: enough for long matrix products, and small enough for any memory


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
