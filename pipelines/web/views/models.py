"""Models: which there are, what they can do, what is here, and the artists and genres that they know.

Imports no torch.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.family import transcribes, varies
from jukebox_core.models import catalogue
from jukebox_core.models.labels import matching, names_of
from jukebox_core.models.licence import acknowledged
from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from jukebox_core.models.config import WeightsConfig

KINDS = ("artist", "genre")
MOST_NAMES = 50
_NEAR = 8
_BATCH = 1  # songs of the memory estimate


def models(weights: WeightsConfig) -> list[dict[str, Any]]:
    """Returns every model that has weights to fetch."""
    return [_shown(each, weights) for each in catalogue.listing(weights)]


def labels(model: str, kind: str, word: str, weights: WeightsConfig) -> dict[str, Any]:
    """Returns the names of a kind that a model knows and that have `word` in them; without any, near misses.

    Raises:
        ConfigError: the kind is none, or the model knows no names.
        DownloadError: the vocabulary is not here and cannot be fetched.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind is {kind[:40]!r}; choose one of {', '.join(KINDS)}")
    names, word = names_of(load_preset(model), weights)[f"{kind}s"], word.strip().lower()
    try:
        found = sorted(matching(names, word), key=lambda name: (not name.startswith(word), name))
    except LabelError:
        found = []
    near = [] if found else difflib.get_close_matches(word, names, n=_NEAR, cutoff=0.5)
    return {"names": found[:MOST_NAMES], "near": near, "total": len(found), "known": len(names)}


def _shown(each: catalogue.Listed, weights: WeightsConfig) -> dict[str, Any]:
    preset = load_preset(each.name)
    family, config = preset.opened, preset.config
    shown = {
        "name": each.name,
        "aliases": list(each.aliases),
        "family": preset.family,
        "does": _does(family),
        "licence": each.licence,
        "accepted": preset.files.terms is None or acknowledged(preset.files, weights),
        "bytes": each.bytes,
        "here": each.usable,
        "files": each.files,
        "present": each.present,
        "trained": preset.trained,
        "usual_seconds": preset.usual_seconds,
        "memory_bytes": None,
        "top": None,
    }
    if shown["does"] == "make":
        shown["top"] = config.top
        shown["memory_bytes"] = family.estimate_bytes(config, range(config.top + 1), "float32", _BATCH, together=False)
    return shown


def _does(family: Any) -> str:
    if transcribes(family):
        return "transcribe"
    return "vary" if varies(family) else "make"
