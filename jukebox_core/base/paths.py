"""Where the files that are shipped with the program are, and the folder of its caches. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from jukebox_core.errors import ConfigError

_PARTS = ("native", "spool")  # folders in the cache folder that do not belong to the weights library


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


def cache_dir(part: str = "") -> Path:
    """Returns the default folder of the weights library, or another `part` of the cache; it may not exist yet.

    That is ``$XDG_CACHE_HOME/jukebox``, without that variable ``~/.cache/jukebox``. Earlier versions kept the library
    in the latter whatever the variable said: it is still used where it holds a library and the former does not.

    Args:
        part: ``native`` (compiled kernels) or ``spool`` (tokens that wait for their store); empty for the library.
    """
    old = Path("~/.cache/jukebox").expanduser()
    new = Path(os.environ.get("XDG_CACHE_HOME") or old.parent).expanduser() / "jukebox"
    return new / part if part or _has_library(new) or not _has_library(old) else old


def _has_library(folder: Path) -> bool:
    return folder.is_dir() and any(entry.name not in _PARTS for entry in folder.iterdir())
