"""A worker's unit of work: claim a device and find the weights on this machine, then sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.errors import CheckpointError
from jukebox_core.family import open_family
from jukebox_core.store.spooled import open_store
from stages.fetch import fetch_weights
from stages.resident import keep_networks
from stages.sampling.devices import own_device
from stages.sampling.sample import sample_shard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.tokens.graph import Node
    from stages.handles import FileHandle, TokensHandle
    from stages.sampling.sample import SamplingJob


DELIVERY_SECONDS = 600.0  # that a worker tries to deliver its windows to a store that does not answer


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerContext:
    """What a worker needs to find weights and a device for itself, on whatever machine it runs."""

    model: ModelSettings  # where the model's files come from
    weights: WeightsConfig  # where they are kept
    devices: tuple[str, ...]  # one for each worker; none: all use the job's
    remote: bool  # other processes read what is sampled here: a window counts when it is in the store
    resident_networks: int  # how many networks stay in memory


def sample_unit(job: SamplingJob, context: WorkerContext, nodes: Sequence[Node]) -> list[TokensHandle]:
    """Samples one window of a batch of songs, as `sample_shard` does, on the machine that this runs on.

    Raises:
        CheckpointError: this machine has other weights than the run was planned with.
        StoreError: the store did not take what was sampled; it is kept on this machine.
    """
    keep_networks(context.resident_networks)
    role = open_family(job.family).role_of(nodes[0].level)
    weights = local_weights(job, context, role)
    with own_device(context.devices, job.hardware.device) as device:
        here = replace(job, hardware=replace(job.hardware, device=device), weights={**job.weights, role: weights})
        handles = sample_shard(here, nodes)
    if context.remote:
        open_store(job.store).flush(DELIVERY_SECONDS)
    return handles


def local_weights(job: SamplingJob, context: WorkerContext, role: str) -> FileHandle:
    """Returns the weights of a role on this machine: the planner's file if it is here, else the same one, fetched.

    Raises:
        CheckpointError: what is fetched here is another file.
    """
    planned = job.weights[role]
    if Path(planned.uri).is_file():
        return planned
    found = fetch_weights(context.model, context.weights, (role,))[role]
    if found.identity != planned.identity:
        raise CheckpointError(
            f"{found.uri} (sha256 {found.identity[:12]}) is not the file that the run was planned with "
            f"({planned.identity[:12]}); delete it on this machine to fetch it again"
        )
    return found
