"""Locations of the files that are shipped with the program. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from jukebox_core.errors import ConfigError


def conf_dir() -> Path:
    """Returns the folder with the configuration files: inside the package when installed, else the repository's.

    Raises:
        ConfigError: neither exists.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "generate.yaml").is_file():
            return folder
    raise ConfigError(f"no configuration files in {package / 'conf'} or beside it; install the package again")
