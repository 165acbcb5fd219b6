"""Shows a model's licence terms once, before the first download, and asks for acceptance; only at a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jukebox_core.errors import ConfigError
from jukebox_core.models.licence import acknowledge, acknowledged, require

if TYPE_CHECKING:
    from jukebox_core.models.config import ModelFiles, WeightsConfig


def ask(files: ModelFiles, weights: WeightsConfig) -> None:
    """Asks at a terminal to accept the terms of `files`; without a terminal it returns, and the download raises.

    Raises:
        ConfigError: the user did not accept.
    """
    if not weights.downloads or acknowledged(files, weights):
        return
    try:
        require(files, weights)
    except ConfigError:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return
    else:
        return
    sys.stderr.write(f"\nThese files are under terms:\n  {files.licence}\nType yes to accept them, this once: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("the terms were not accepted, so nothing was fetched; model=mini needs none")
    acknowledge(files, weights, "at a terminal")
