"""Prepares a model for new artists and genres: longer vocabularies, and tables with a row for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest_file
from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.families.jukebox.training.label_tables import as_text, extended, widened_priors
from stages.handles import FileHandle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jukebox_core.families.jukebox.config import JukeboxConfig, PriorsConfig
    from jukebox_core.families.jukebox.training.config import NewNames


@dataclass(frozen=True, slots=True)
class Widened:
    """Priors and vocabularies with the new names."""

    priors: PriorsConfig
    vocabularies: dict[str, FileHandle]


def add_names(config: JukeboxConfig, vocabularies: Mapping[str, FileHandle], names: NewNames, folder: Path) -> Widened:
    """Writes vocabularies with `names` into `folder`; returns them, and the priors' sizes that go with them.

    Raises:
        ConfigError: the top prior knows neither artists nor genres.
        LabelError: a name is there already, or one that it shall be like is not.
    """
    if not names.artists and not names.genres:
        return Widened(config.priors, dict(vocabularies))
    labels = config.priors[config.top].labels
    if labels is None:
        raise ConfigError(f"{config.name} was trained without artists and genres; remove labels.artists and .genres")
    kind, paths = labels.vocabulary, dict(vocabularies)
    known = load_vocabularies({role: handle.read() for role, handle in vocabularies.items()})
    artists, genres = extended(known[kind], names)
    for role, ids in ((f"artists_{kind}", artists), (f"genres_{kind}", genres)):
        path = folder / f"{role}.txt"
        with atomic_write(path) as file:
            file.write(as_text(ids).encode())
        paths[role] = FileHandle.of(path, digest_file(path))
    rows = (max(artists.values()) + 1, max(genres.values()) + 1)
    return Widened(widened_priors(config.priors, kind, *rows), paths)
