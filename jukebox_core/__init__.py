"""Token models that make music: load one, generate, encode, decode; codes are integer arrays.

    >>> import jukebox_core as jukebox
    >>> model = jukebox.load_model("mini")
    >>> music = model.generate(jukebox.Song(artist="music box", genre="waltz"), seconds=6)

Importing this package imports nothing heavy: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jukebox_core.api.generation import Progress
    from jukebox_core.api.model import load_model
    from jukebox_core.api.music import Music, Piece
    from jukebox_core.audio.files import read_audio, write_audio
    from jukebox_core.errors import JukeboxError
    from jukebox_core.families.jukebox.api import Jukebox
    from jukebox_core.families.jukebox.conditioning.song import Song
    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.sampling.config import LevelSampling, SamplingConfig
    from jukebox_core.features.config import FeatureConfig
    from jukebox_core.features.folder import load_features
    from jukebox_core.features.results import Features
    from jukebox_core.runtime.config import HardwareConfig

_HOMES = {
    "FeatureConfig": "jukebox_core.features.config",
    "Features": "jukebox_core.features.results",
    "HardwareConfig": "jukebox_core.runtime.config",
    "Jukebox": "jukebox_core.families.jukebox.api",
    "JukeboxConfig": "jukebox_core.families.jukebox.config",
    "JukeboxError": "jukebox_core.errors",
    "LevelSampling": "jukebox_core.families.jukebox.sampling.config",
    "Music": "jukebox_core.api.music",
    "Piece": "jukebox_core.api.music",
    "Progress": "jukebox_core.api.generation",
    "SamplingConfig": "jukebox_core.families.jukebox.sampling.config",
    "Song": "jukebox_core.families.jukebox.conditioning.song",
    "load_features": "jukebox_core.features.folder",
    "load_model": "jukebox_core.api.model",
    "read_audio": "jukebox_core.audio.files",
    "write_audio": "jukebox_core.audio.files",
}

__all__ = [
    "FeatureConfig",
    "Features",
    "HardwareConfig",
    "Jukebox",
    "JukeboxConfig",
    "JukeboxError",
    "LevelSampling",
    "Music",
    "Piece",
    "Progress",
    "SamplingConfig",
    "Song",
    "load_features",
    "load_model",
    "read_audio",
    "write_audio",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module("jukebox_core.base.waiting").share_cores()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
