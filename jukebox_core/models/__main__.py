"""``python -m jukebox_core.models``: fetches models and nothing else.

It needs this package and PyYAML, not torch, Hydra or Prefect, so that a container's layer with the weights
does not depend on them (docs/checkpoints.md).
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from jukebox_core.errors import ConfigError, JukeboxError
from jukebox_core.models.catalogue import fetch
from jukebox_core.models.config import WeightsConfig

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches models into a folder; returns the exit status: 1 for a failed download, 2 for a wrong request."""
    parser = argparse.ArgumentParser(prog="python -m jukebox_core.models", description="Fetch models into a folder.")
    parser.add_argument("names", nargs="+", help="models, aliases, model files, or all")
    parser.add_argument("--folder", help="where files are kept ($JUKEBOX_WEIGHTS, or the user's cache folder)")
    parser.add_argument("--mirror", action="append", default=[], help="a source tried first; may be repeated")
    parser.add_argument("--substitute", metavar="SOURCE", help="the only source of weights, whatever it holds")
    parser.add_argument("--connections", type=int, default=4, help="parallel ranges of a large file (%(default)s)")
    parser.add_argument("--offline", action="store_true", help="open no connection")
    parser.add_argument("--accept-licence", action="store_true", help="the terms were read and are accepted")
    given = vars(parser.parse_args(arguments))
    names, mirrors = given.pop("names"), tuple(given.pop("mirror"))
    try:
        for path in fetch(names, WeightsConfig(**given, mirrors=mirrors)).values():
            print(path)  # noqa: T201 - the command's answer
    except JukeboxError as error:
        print(f"jukebox: {error}", file=sys.stderr)  # noqa: T201 - a program's error
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
