"""Brings a model's files here: cached, verified, resumed after any break."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.models.resolve import obtain_vocabularies, obtain_weights
from stages.handles import FileHandle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.models.config import ModelFiles, WeightsConfig
    from jukebox_core.models.resolve import Obtained


def fetch_vocabularies(files: ModelFiles, weights: WeightsConfig) -> dict[str, FileHandle]:
    """Returns handles of the model's vocabularies, by role."""
    return _handles(obtain_vocabularies(files, weights))


def fetch_weights(
    config: JukeboxConfig, files: ModelFiles, weights: WeightsConfig, roles: Sequence[str] | None = None
) -> dict[str, FileHandle]:
    """Returns handles of the model's weights, by role."""
    return _handles(obtain_weights(config, files, weights, roles=roles))


def fetch_fitting_weights(
    config: JukeboxConfig, files: ModelFiles, weights: WeightsConfig, roles: Sequence[str] | None = None
) -> dict[str, FileHandle]:
    """Returns handles of the model's weights, by role, after a look at what the files hold.

    Otherwise a wrong file of the last level would be noticed when all the others are sampled.

    Raises:
        CheckpointError: a file is truncated, no checkpoint, unsafe, or of another model.
    """
    from jukebox_core.families.jukebox.checkpoints.fitting import (
        check_weights,  # needs torch, which a finished run does not
    )

    handles = fetch_weights(config, files, weights, roles)
    for role, handle in handles.items():
        check_weights(config, role, handle.read())
    return handles


def _handles(obtained: Mapping[str, Obtained]) -> dict[str, FileHandle]:
    return {role: FileHandle.of(file.path, file.sha256, file.identity) for role, file in obtained.items()}
