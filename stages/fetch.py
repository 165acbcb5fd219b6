"""Brings a model's files here: cached, verified, resumed after any break."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.families.jukebox.files import ROLES, obtain_vocabularies, obtain_weights
from stages.handles import FileHandle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.files import Obtained
    from jukebox_core.weights.config import ModelFiles, WeightsConfig


def fetch_vocabularies(files: ModelFiles, weights: WeightsConfig) -> dict[str, FileHandle]:
    """Returns handles of the model's vocabularies, by role."""
    return _handles(obtain_vocabularies(files, weights))


def fetch_weights(
    config: JukeboxConfig, files: ModelFiles, weights: WeightsConfig, roles: Sequence[str] = ROLES
) -> dict[str, FileHandle]:
    """Returns handles of the model's weights, by role."""
    return _handles(obtain_weights(config, files, weights, roles=roles))


def _handles(obtained: Mapping[str, Obtained]) -> dict[str, FileHandle]:
    return {role: FileHandle.of(file.path, file.sha256, file.identity) for role, file in obtained.items()}
