"""Recipes by name or by file, for programs that use the core without the command line. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from typing import Any

from jukebox_core.base.structuring import build
from jukebox_core.errors import ConfigError
from jukebox_core.features.config import FeatureConfig
from jukebox_core.models.presets import option_data, option_path

GROUP = "features"


def load_recipe(name_or_path: str | os.PathLike[str] | FeatureConfig = "default", **changes: Any) -> FeatureConfig:
    """Returns a recipe: a shipped one by name, or the user's own by the path of its file, with fields replaced.

    Raises:
        ConfigError: there is no such recipe or field, or the values do not fit together.
    """
    recipe = name_or_path
    if not isinstance(recipe, FeatureConfig):
        recipe = build(FeatureConfig, option_data(option_path(os.fspath(recipe), GROUP), GROUP), GROUP)
    try:
        return replace(recipe, **changes)
    except TypeError:
        known = [field.name for field in fields(FeatureConfig)]
        unknown = ", ".join(sorted(set(changes) - set(known)))
        raise ConfigError(f"{unknown} is no field of a recipe; it consists of {', '.join(known)}") from None
