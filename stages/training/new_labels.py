"""Adds labels to a model before its training: longer vocabularies, and network settings with room for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest_file
from stages.handles import FileHandle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jukebox_core.models.presets import ModelSettings


@dataclass(frozen=True, slots=True)
class Labelled:
    """Network settings and vocabularies that include the new labels."""

    network: Any
    vocabularies: dict[str, FileHandle]


def add_labels(model: ModelSettings, vocabularies: Mapping[str, FileHandle], labels: Any, folder: Path) -> Labelled:
    """Returns a model's network settings and vocabularies with `labels` added; changed files are written to `folder`.

    Args:
        model: the model that training starts from.
        vocabularies: by role.
        labels: a record of the family's `new_labels_type`.
        folder: receives the vocabularies that change.

    Raises:
        ConfigError: the model has no labels.
        LabelError: a label exists already, or the one that it should share a row with does not.
    """
    paths = {role: handle.read() for role, handle in vocabularies.items()}
    family = model.opened.training()
    network, written = family.add_labels(model.config, model.network, labels, paths, folder)
    handles = {role: FileHandle.of(path, digest_file(path)) for role, path in written.items()}
    return Labelled(network, {**vocabularies, **handles})
