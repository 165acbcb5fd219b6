"""Which files a model needs and where they come from, as frozen records. Imports no torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from jukebox_core.base.paths import cache_dir, user_path
from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

FOLDER_VARIABLE, OFFLINE_VARIABLE = "JUKEBOX_WEIGHTS", "HF_HUB_OFFLINE"
_MOST_CONNECTIONS = 16  # servers refuse clients that open many more
_TOLERANCE = 0.005  # how far an approximate size may be off, as a share of it


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSpec:
    """One file: its path below every source, and its size and digest where they were published."""

    path: str
    bytes: int | None = None  # exact size
    about_bytes: int | None = None  # size to within 0.5 %, where the exact one was never published
    sha256: str | None = None
    purpose: str = ""  # in a few words
    sources: tuple[str, ...] = ()  # sources of this file alone, tried before those of the model

    def __post_init__(self) -> None:
        """Checks the form of path and digest."""
        if not self.path or self.path.startswith("/") or ".." in self.path.split("/"):
            raise ConfigError(f"file path {self.path!r} must be relative and stay below its source")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ConfigError(f"sha256 of {self.path} is {self.sha256!r}; it must be 64 lower-case hexadecimal digits")

    @property
    def max_bytes(self) -> int | None:
        """The most bytes that the file can have; None if nothing is known."""
        if self.bytes is not None:
            return self.bytes
        return None if self.about_bytes is None else int(self.about_bytes * (1 + _TOLERANCE))

    def size_fault(self, size: int) -> str | None:
        """Returns how `size`, in bytes, disagrees with the known size; None if it does not."""
        if self.bytes is not None:
            return None if size == self.bytes else f"{size:,} bytes, but the file has {self.bytes:,}"
        if self.about_bytes is not None and abs(size - self.about_bytes) > _TOLERANCE * self.about_bytes:
            return f"{size:,} bytes, but the file has about {self.about_bytes:,} (within {_TOLERANCE:.1%})"
        return None

    def fits(self, path: Path) -> bool:
        """Whether `path` is a file whose size agrees with the known one."""
        return path.is_file() and self.size_fault(path.stat().st_size) is None


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeCopy:
    """A copy of a model in which one set of files (shards) holds all networks; the family splits it."""

    layout: Literal["hub"]  # "hub": as on the Hugging Face hub
    sources: tuple[str, ...]
    shards: tuple[FileSpec, ...]

    def __post_init__(self) -> None:
        """Checks that sources and shards are given."""
        for name in ("sources", "shards"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; give at least one")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFiles:
    """The files of a model, by role, and the sources that hold them, in the order they are tried.

    A source is ``https://...``, ``file:///...``, an absolute folder, ``s3://``, ``gs://`` or ``az://`` (fsspec),
    ``hf://owner/name`` (the Hugging Face hub), ``lfs+https://...`` (git-lfs), ``package:<folder>`` (files shipped with
    this program) or ``seed:<number>`` (an untrained model, initialised from that seed).
    """

    weight_sources: tuple[str, ...]  # empty: published nowhere in a form that can be read
    vocabulary_sources: tuple[str, ...]
    weights: dict[str, FileSpec]  # by role, every role of the model
    vocabularies: dict[str, FileSpec]  # by role, as the model needs
    licence: str  # one line, recorded with every run
    terms: str | None = None  # name of terms that must be acknowledged before the first download; null: none
    whole: WholeCopy | None = None  # weights come from here instead

    def __post_init__(self) -> None:
        """Checks that vocabularies have sources; weights without one are the user's own (`WeightsConfig.paths`)."""
        if self.vocabularies and not self.vocabulary_sources:
            raise ConfigError("vocabulary_sources is empty; give at least one source")


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsConfig:
    """Where files are kept and looked for, and how they are fetched."""

    folder: str | None = None  # fetched files are kept here; null: $JUKEBOX_WEIGHTS, else the user's cache folder
    mirrors: tuple[str, ...] = ()  # tried before the sources a model names, with the same layout and the same content
    substitute: str | None = None  # the only source of weights; may hold other content, kept apart from the published
    elsewhere: tuple[str, ...] = ()  # folders of other programs with the same layout: used in place, never written to
    paths: dict[str, str] = field(default_factory=dict)  # the user's own files by role, as ROLE: /data/weights.pth.tar
    offline: bool = False  # open no connection; a missing file is an error (so does HF_HUB_OFFLINE=1)
    auto_download: bool = True  # fetch missing files when they are first needed; false: only when asked to fetch them
    connections: int = 4  # ranges of one large file fetched in parallel
    pickles: Literal["keep", "convert", "replace"] = "convert"  # convert: a safetensors copy beside; replace: instead
    prepared: bool = True  # keep a copy of weights converted and laid out for sampling, so that they load faster
    accept_licence: bool = False  # the model's licence has been read and is accepted (so does JUKEBOX_ACCEPT_LICENCE=1)

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not 1 <= self.connections <= _MOST_CONNECTIONS:
            raise ConfigError(f"connections is {self.connections}; choose 1 to {_MOST_CONNECTIONS}")
        if self.folder == "":
            raise ConfigError("folder is empty; give the folder that fetched files are kept in, or null")

    @property
    def home(self) -> Path:
        """The weights folder."""
        return user_path(self.folder or os.environ.get(FOLDER_VARIABLE) or cache_dir())

    @property
    def prepared_home(self) -> Path | None:
        """The weights folder as an absolute path; None if no prepared weights are kept there."""
        return self.home.absolute() if self.prepared else None

    @property
    def is_offline(self) -> bool:
        """Whether no connection may be opened: by setting, or by the environment variable of the Hugging Face hub."""
        return self.offline or os.environ.get(OFFLINE_VARIABLE, "").lower() in ("1", "true", "yes", "on")

    @property
    def downloads(self) -> bool:
        """Whether missing files are fetched from other machines."""
        return self.auto_download and not self.is_offline
