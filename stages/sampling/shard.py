"""A worker's unit of work: claims a device, finds the weights on this machine, then samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from jukebox_core.errors import CheckpointError
from jukebox_core.family import open_family
from jukebox_core.store.spooled import open_store
from stages.fetch import fetch_weights
from stages.resident import keep_networks
from stages.sampling.devices import own_device
from stages.sampling.sample import sample_shard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.tokens.graph import Node
    from stages.handles import FileHandle, TokensHandle
    from stages.sampling.sample import SamplingJob


DELIVERY_SECONDS = 600.0  # timeout of a worker's upload to a store that does not respond


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerContext:
    """Settings by which a worker finds weights and a device on the machine that it runs on."""

    model: ModelSettings  # names the sources of the model's files
    weights: WeightsConfig  # names the folder that they are fetched to
    devices: tuple[str, ...]  # one for each worker; empty: all use the job's
    remote: bool  # other processes read the windows: a unit ends once they are uploaded to the store
    resident_networks: int  # networks that stay in memory


def sample_unit(job: SamplingJob, context: WorkerContext, nodes: Sequence[Node]) -> list[TokensHandle]:
    """Samples one window of a batch of songs, as `sample_shard`, on the worker's machine; returns the handles.

    Raises:
        CheckpointError: this machine has other weights than the run was planned with.
        StoreError: the windows could not be uploaded; they are kept on this machine.
    """
    keep_networks(context.resident_networks)
    family = open_family(job.family)
    roles = family.files_of(family.role_of(nodes[0].level))
    weights = {role: local_weights(job, context, role) for role in roles}
    with own_device(context.devices, job.hardware.device) as device:
        here = replace(job, hardware=replace(job.hardware, device=device), weights={**job.weights, **weights})
        handles = sample_shard(here, nodes)
    if context.remote:
        open_store(job.store).flush(DELIVERY_SECONDS)
    return handles


class WithWeights(Protocol):
    """Work that reads weights."""

    @property
    def weights(self) -> Mapping[str, FileHandle]:
        """The weights by role, as they were when the work was planned."""
        ...


def local_weights(job: WithWeights, context: WorkerContext, role: str) -> FileHandle:
    """Returns the weights of a role on this machine: the planner's file if its path exists here, else a download.

    Raises:
        CheckpointError: the downloaded file is another one.
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
