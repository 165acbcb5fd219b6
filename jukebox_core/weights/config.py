"""Which files a model needs and where they come from, as frozen records. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jukebox_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSpec:
    """One file: its path below every source, and what is known of it in advance."""

    path: str
    bytes: int | None = None  # exact size
    about_bytes: int | None = None  # size to within 0.5 %, where the exact one was never published
    sha256: str | None = None

    def __post_init__(self) -> None:
        """Checks the form of path and digest."""
        if not self.path or self.path.startswith("/") or ".." in self.path.split("/"):
            raise ConfigError(f"file path {self.path!r} must be relative and stay below its source")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ConfigError(f"sha256 of {self.path} is {self.sha256!r}; it must be 64 lower-case hexadecimal digits")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFiles:
    """The files of a model, by role, and the sources that hold them, in the order they are tried.

    A source is ``https://...``, ``file:///...``, ``package:<folder>`` (files shipped with this program) or
    ``seed:<number>`` (weights are initialised from that seed: an untrained model).
    """

    weight_sources: tuple[str, ...]
    vocabulary_sources: tuple[str, ...]
    weights: dict[str, FileSpec]  # vqvae, level_0, level_1, level_2
    vocabularies: dict[str, FileSpec]  # artists_v2, genres_v2, artists_v3, genres_v3, as the priors need
    licence: str  # one line, recorded with every run

    def __post_init__(self) -> None:
        """Checks that every role is filled."""
        wanted = {"vqvae", "level_0", "level_1", "level_2"}
        if set(self.weights) != wanted:
            raise ConfigError(f"weights name {sorted(self.weights)}; name exactly {sorted(wanted)}")
        for name in ("weight_sources", "vocabulary_sources"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; give at least one source")


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsConfig:
    """Where fetched files are kept and looked for."""

    folder: str  # fetched files are kept here
    mirrors: tuple[str, ...] = ()  # tried before the sources a model names, with the same layout
    offline: bool = False  # open no connection; a missing file is an error
