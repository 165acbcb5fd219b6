"""Fetches a model's files: cached, verified, resumed after interruptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.models.resolve import obtain_vocabularies, obtain_weights
from stages.handles import FileHandle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.library import LocalFile
    from jukebox_core.models.presets import ModelSettings


def fetch_vocabularies(model: ModelSettings, weights: WeightsConfig) -> dict[str, FileHandle]:
    """Returns handles of the model's vocabularies, by role."""
    return _handles(obtain_vocabularies(model.files, weights))


def fetch_weights(
    model: ModelSettings, weights: WeightsConfig, roles: Sequence[str] | None = None
) -> dict[str, FileHandle]:
    """Returns handles of the model's weights, by role."""
    return _handles(obtain_weights(model, weights, roles=roles))


def fetch_checked_weights(
    model: ModelSettings, weights: WeightsConfig, roles: Sequence[str] | None = None
) -> dict[str, FileHandle]:
    """Returns handles of the model's weights, by role, after a check of names and shapes in the files.

    Without it an invalid file of the last level would fail only after all other levels were sampled.

    Raises:
        CheckpointError: a file is truncated, no checkpoint, unsafe, or of another model.
    """
    handles = fetch_weights(model, weights, roles)
    for role, handle in handles.items():
        model.opened.check_file(model.config, role, handle.read())
    return handles


def _handles(files: Mapping[str, LocalFile]) -> dict[str, FileHandle]:
    return {role: FileHandle.of(file.path, file.sha256, file.identity) for role, file in files.items()}
