"""A worker's part of a transcription: recordings, or some blocks of a long one, on the machine that it runs on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import AudioError
from jukebox_core.store.spooled import open_store
from stages.sampling.devices import own_device
from stages.sampling.shard import DELIVERY_SECONDS, local_weights
from stages.sound.transcribe import Recording, store_blocks, transcribe_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stages.handles import FileHandle
    from stages.resident import TranscriberSpec
    from stages.sampling.shard import WorkerContext

log = logging.getLogger("jukebox")


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptionJob:
    """What all recordings of a command share."""

    spec: TranscriberSpec
    role: str  # of the weights
    settings: Any  # the family's `transcription_type`
    store: str

    @property
    def weights(self) -> Mapping[str, FileHandle]:
        """The weights by role."""
        return {self.role: self.spec.weights}


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptionNode:
    """One recording with its files, or some of its blocks without these."""

    recording: Recording
    blocks: tuple[int, int] | None = None  # first and stop; None: all, and the files


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcribed:
    """What came of a node."""

    node: TranscriptionNode
    paths: tuple[str, ...] = ()  # of the files; empty for blocks
    error: str | None = None  # why the recording is left out


def transcribe_unit(
    job: TranscriptionJob, context: WorkerContext, nodes: Sequence[TranscriptionNode]
) -> list[Transcribed]:
    """Transcribes nodes on the worker's machine; returns what came of each, in their order.

    A recording that was found in a folder and cannot be read is left out; the others go on.

    Raises:
        AudioError: a recording that the user named cannot be read.
        CheckpointError: this machine has other weights than the command began with.
        StoreError: the blocks could not be uploaded; they are kept on this machine.
        StoppedError: the process was asked to stop; finished blocks are stored.
    """
    weights = local_weights(job, context, job.role)
    with own_device(context.devices, job.spec.hardware.device) as device:
        spec = replace(job.spec, weights=weights, hardware=replace(job.spec.hardware, device=device))
        done = [_transcribed(spec, job, node) for node in nodes]
    if context.remote:
        open_store(job.store).flush(DELIVERY_SECONDS)
    return done


def _transcribed(spec: TranscriberSpec, job: TranscriptionJob, node: TranscriptionNode) -> Transcribed:
    recording = node.recording
    try:
        if node.blocks is not None:
            store_blocks(spec, recording, job.settings, job.store, *node.blocks)
            return Transcribed(node=node)
        paths = transcribe_file(spec, recording, job.settings, job.store)
    except AudioError as error:
        if recording.named:
            raise
        log.warning("%s is left out: %s", recording.audio, error)
        return Transcribed(node=node, error=str(error))
    return Transcribed(node=node, paths=tuple(map(str, paths)))
