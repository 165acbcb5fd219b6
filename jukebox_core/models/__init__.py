"""Models and their files: list, fetch, verify, remove and carry them, from programs.

    >>> from jukebox_core import models
    >>> models.fetch(["mini"], models.WeightsConfig(folder="/data"))

Importing this package imports nothing heavy: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jukebox_core.models.catalogue import (
        ALL,
        Checked,
        Listed,
        check,
        export,
        fetch,
        import_,
        listing,
        paths,
        prepare,
        remove,
    )
    from jukebox_core.models.config import WeightsConfig

__all__ = [
    "ALL",
    "Checked",
    "Listed",
    "WeightsConfig",
    "check",
    "export",
    "fetch",
    "import_",
    "listing",
    "paths",
    "prepare",
    "remove",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'config' if name == 'WeightsConfig' else 'catalogue'}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
