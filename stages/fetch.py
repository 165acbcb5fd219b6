"""The tasks that bring a model's files here: cached, verified, resumed after any break."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from jukebox_core.families.jukebox.files import ROLES, obtain_vocabularies, obtain_weights
from stages.handles import FileHandle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.files import Obtained
    from jukebox_core.weights.config import ModelFiles, WeightsConfig


@task(name="fetch vocabularies", cache_policy=NO_CACHE, persist_result=False)
def fetch_vocabularies_task(files: ModelFiles, weights: WeightsConfig) -> dict[str, FileHandle]:
    """Returns handles of the model's vocabularies, by role."""
    return fetch_vocabularies(files, weights)


@task(name="fetch weights", cache_policy=NO_CACHE, persist_result=False)
def fetch_weights_task(
    config: JukeboxConfig, files: ModelFiles, weights: WeightsConfig, roles: Sequence[str] = ROLES
) -> dict[str, FileHandle]:
    """Returns handles of the model's weights, by role."""
    return _handles(obtain_weights(config, files, weights, roles=roles))


def fetch_vocabularies(files: ModelFiles, weights: WeightsConfig) -> dict[str, FileHandle]:
    """Returns handles of the model's vocabularies, by role."""
    return _handles(obtain_vocabularies(files, weights))


def _handles(obtained: Mapping[str, Obtained]) -> dict[str, FileHandle]:
    return {role: FileHandle.of(file.path, file.sha256) for role, file in obtained.items()}
