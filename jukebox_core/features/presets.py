"""Recipes by name or by file, for programs that use the core without the command line. Imports no torch."""

from __future__ import annotations

import os
from typing import Any

from jukebox_core.base.structuring import build, to_plain
from jukebox_core.features.config import FeatureConfig
from jukebox_core.models.presets import option_data, option_path

GROUP = "features"


def load_recipe(name_or_path: str | os.PathLike[str] | FeatureConfig = "default", **changes: Any) -> FeatureConfig:
    """Returns a recipe: a shipped one by name, or the user's own by the path of its file, with fields replaced.

    Raises:
        ConfigError: there is no such recipe or field, or the values do not fit together.
    """
    if isinstance(name_or_path, FeatureConfig):
        data = to_plain(name_or_path)
    else:
        data = option_data(option_path(os.fspath(name_or_path), GROUP), GROUP)
    listed = {key: list(value) if isinstance(value, tuple | range) else value for key, value in changes.items()}
    return build(FeatureConfig, data | listed, GROUP)
