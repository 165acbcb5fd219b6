"""The artists and genres that models know, from their vocabulary files. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jukebox_core.base.text import printable
from jukebox_core.errors import ConfigError, JukeboxError, LabelError, did_you_mean
from jukebox_core.models.presets import load_preset, option_names
from jukebox_core.models.resolve import obtain_vocabularies
from jukebox_core.protocols import LabelledFamily

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.presets import ModelSettings

_MOST_MODELS = 3  # named in an error


def names_of(model: ModelSettings, weights: WeightsConfig) -> dict[str, list[str]]:
    """Returns the names that a model knows, by kind, sorted; its vocabularies are fetched if they are missing.

    Raises:
        ConfigError: it knows none.
        DownloadError: a vocabulary cannot be fetched.
    """
    family = model.opened
    if not (isinstance(family, LabelledFamily) and family.has_names(model.config)):
        raise ConfigError(f"model {model.name} knows no artists and genres; choose another, such as mini")
    files = obtain_vocabularies(model.files, weights)
    found = family.names(model.config, {role: file.path for role, file in files.items()})
    return {kind: sorted(names) for kind, names in found.items()}


def matching(names: Sequence[str], word: str) -> list[str]:
    """Returns the names that contain a word, in any case.

    Raises:
        LabelError: none does; near misses are listed.
    """
    found = [name for name in names if word.lower() in name.lower().replace("_", " ")]
    if not found:
        raise LabelError(f"no name contains {printable(word)!r}{did_you_mean(word.lower(), names)}")
    return found


def with_models(error: LabelError, model: str, weights: WeightsConfig) -> LabelError:
    """Returns the error of a name that `model` does not know, with the shipped models that do, as far as is known here.

    Nothing is fetched: only vocabularies that are here are read.
    """
    if error.kind is None:
        return error
    here = replace(weights, offline=True, auto_download=False)
    knowing = [name for name in option_names("model") if name != model and _knows(name, error.kind, error.name, here)]
    if not knowing:
        return error
    shown = " and ".join(f"model={name}" for name in knowing[:_MOST_MODELS])
    return LabelError(f"{error}; known to {shown}", kind=error.kind, name=error.name)


def _knows(model: str, kind: str, name: str, weights: WeightsConfig) -> bool:
    try:
        return name.lower() in {each.lower().replace("_", " ") for each in names_of(load_preset(model), weights)[kind]}
    except (JukeboxError, KeyError):
        return False
