"""What a worker does with a unit of work: finds a device and the weights on its own machine, then samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.errors import CheckpointError
from jukebox_core.store.spooled import open_store
from stages.fetch import fetch_weights
from stages.resident import keep_priors
from stages.sampling.devices import own_device
from stages.sampling.sample import sample_shard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.models.config import ModelFiles, WeightsConfig
    from jukebox_core.tokens.graph import Node
    from stages.handles import FileHandle, TokensHandle
    from stages.sampling.sample import SamplingJob


DELIVERY_SECONDS = 600.0  # that a worker tries to give its windows to a store that does not answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Workplace:
    """What a worker needs to find for itself, on whatever machine it runs."""

    files: ModelFiles  # where the model's files come from
    weights: WeightsConfig  # where they are kept
    devices: tuple[str, ...]  # one for each worker; none: all use the job's
    remote: bool  # other processes read what is sampled here: a window counts when it is in the store
    resident_priors: int  # how many priors stay in memory


def sample_unit(job: SamplingJob, place: Workplace, nodes: Sequence[Node]) -> list[TokensHandle]:
    """Samples one window of several songs side by side, as `sample_shard` does, on the machine that this runs on.

    Raises:
        CheckpointError: this machine has other weights than the run was planned with.
        StoreError: others could not be given what was sampled; it is kept on this machine.
    """
    keep_priors(place.resident_priors)
    level = nodes[0].level
    weights = local_weights(job, place, level)
    with own_device(place.devices, job.hardware.device) as device:
        here = replace(job, hardware=replace(job.hardware, device=device), weights={**job.weights, level: weights})
        handles = sample_shard(here, nodes)
    if place.remote:
        open_store(job.store).flush(DELIVERY_SECONDS)
    return handles


def local_weights(job: SamplingJob, place: Workplace, level: int) -> FileHandle:
    """Returns the weights of a level on this machine: the planner's file if it is here, else the same fetched anew."""
    planned = job.weights[level]
    if Path(planned.uri).is_file():
        return planned
    role = f"level_{level}"
    found = fetch_weights(job.config, place.files, place.weights, (role,))[role]
    if found.identity != planned.identity:
        raise CheckpointError(
            f"{found.uri} (sha256 {found.identity[:12]}) is not the file that the run was planned with "
            f"({planned.identity[:12]}); delete it on this machine to fetch it again"
        )
    return found
