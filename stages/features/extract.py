"""Takes the features of a group of recordings and writes them, one by one, to their folder."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest, digest_bytes
from jukebox_core.composer.builtin import read_prompt_audio
from jukebox_core.errors import AudioError, JukeboxError
from jukebox_core.features.extract import Recording, extract
from jukebox_core.features.folder import Entry, FeatureFolder, SourceState
from jukebox_core.features.networks import connect
from jukebox_core.features.plan import plan_features
from jukebox_core.runtime.config import ENGINE_VERSION
from stages import stopping
from stages.resident import CodecSpec, FeatureSpec
from stages.sampling.devices import own_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.features.config import FeatureConfig
    from jukebox_core.features.plan import FeaturePlan
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.protocols import FeatureExtractor
    from jukebox_core.runtime.config import HardwareConfig
    from stages.handles import FileHandle
    from stages.sampling.shard import WorkerContext

    Found = tuple[Recording, str] | JukeboxError  # with the digest of its audio, or why it cannot be read

log = logging.getLogger("jukebox")

_READ_AHEAD = 2  # recordings that are decoded while others are computed


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureJob:
    """What all recordings of a run share."""

    model: ModelSettings
    recipe: FeatureConfig
    hardware: HardwareConfig
    weights: Mapping[str, FileHandle]  # by role, those of the plan
    vocabularies: Mapping[str, FileHandle]
    folder: str
    library: str | None = None  # the weights folder, whose prepared weights are used
    seconds: float | None = None  # length of the excerpt of each recording; None: all of it
    offset_seconds: float = 0.0  # its start

    def causes(self, described: Mapping[str, Any]) -> str:
        """Returns the hash of everything that decides the arrays of a recording besides its audio.

        Args:
            described: the song that the network is conditioned on, as plain data.
        """
        network = {name: handle.identity for name, handle in self.weights.items()}
        recipe = {name: getattr(self.recipe, name) for name in self.recipe.__dataclass_fields__ if name != "name"}
        return digest(
            {
                "schema": 1 if self.hardware.dtype == "float32" else 2,  # 2: float32 from layer to layer
                "family": self.model.family,
                "network": self.model.network,
                "weights": network,
                "recipe": recipe,
                "dtype": self.hardware.dtype,
                "engine": ENGINE_VERSION,
                "excerpt": (self.seconds, self.offset_seconds),
                "song": dict(described),
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureNode:
    """One recording: the unit that is finished or not."""

    name: str
    path: str
    song: Any  # the family's song record
    causes: str  # `FeatureJob.causes` of it
    fields: dict[str, str] = field(default_factory=dict)  # of its line in a table


def extract_features(job: FeatureJob, context: WorkerContext, nodes: Sequence[FeatureNode]) -> list[Entry]:
    """Writes the features of recordings that are not finished; returns the entries of all, in the order of `nodes`.

    A recording that cannot be used gets an entry with its error, and the others go on.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
        CheckpointError: weights changed since they were checked.
        StoppedError: the process was asked to stop; finished recordings are kept.
    """
    folder, plan = FeatureFolder(Path(job.folder)), plan_features(job.model, job.recipe)
    known, done, waiting = folder.entries(), dict[int, Entry](), list[tuple[int, Entry]]()

    def recordings() -> Iterator[Recording | JukeboxError]:
        """Yields what has to be computed, and notes in `waiting` the entry of each."""
        for index, (node, (source, found)) in enumerate(zip(nodes, read_ahead(job, nodes), strict=True)):
            stopping.check()
            entry = Entry(
                name=node.name,
                path=node.path,
                causes=node.causes,
                size=source.size,
                modified_ns=source.modified_ns,
                fields=node.fields,
            )
            if isinstance(found, JukeboxError):
                waiting.append((index, entry))
                yield found
                continue
            recording, sha256 = found
            assert recording.audio is not None
            entry = replace(entry, audio=sha256, seconds=len(recording.audio) / job.model.config.sample_rate)
            before = known.get(node.name)
            if before is not None and folder.is_current(before, node.causes, source, sha256):
                done[index] = replace(entry, arrays=before.arrays)
                folder.append(done[index])  # with the file's new time
                continue
            waiting.append((index, entry))
            yield recording

    with own_device(context.devices, job.hardware.device) as device:
        here = replace(job.hardware, device=device)
        networks = connect(
            job.model,
            job.recipe,
            {role: handle.read() for role, handle in job.vocabularies.items()},
            codec=CodecSpec.of(job.model, job.weights[plan.roles[0]], here).open,
            extractor=_extractor(job, plan, here) if plan.deepest else None,
            batch=here.batch_size,
        )
        for number, arrays in extract(recordings(), networks):
            index, entry = waiting[number]
            done[index] = _write(folder, entry, arrays)
    return [done[index] for index in range(len(nodes))]


def _extractor(job: FeatureJob, plan: FeaturePlan, hardware: HardwareConfig) -> FeatureExtractor:
    weights = job.weights[plan.roles[-1]]
    return FeatureSpec(model=job.model, plan=plan, weights=weights, hardware=hardware, library=job.library).open()


def _write(folder: FeatureFolder, entry: Entry, found: Mapping[str, NDArray[Any]] | JukeboxError) -> Entry:
    stopping.check_held()
    if not isinstance(found, JukeboxError):
        return folder.write(entry, found)
    refused = replace(entry, error=str(found))
    folder.append(refused)
    log.warning("%s is left out: %s", entry.path, found)
    return refused


def read_ahead(job: FeatureJob, nodes: Sequence[FeatureNode]) -> Iterator[tuple[SourceState, Found]]:
    """Yields each recording with the state of its file, while the next ones are being decoded."""
    with ThreadPoolExecutor(1) as pool:
        queue = deque(pool.submit(partial(_read, job, node)) for node in nodes[:_READ_AHEAD])
        following = iter(nodes[_READ_AHEAD:])
        while queue:
            current = queue.popleft()
            for node in following:
                queue.append(pool.submit(partial(_read, job, node)))
                break
            yield current.result()


def _read(job: FeatureJob, node: FeatureNode) -> tuple[SourceState, Found]:
    rate, source = job.model.config.sample_rate, SourceState.of(node.path)
    try:
        audio = read_prompt_audio(node.path, rate=rate, seconds=job.seconds, offset=job.offset_seconds)
        total = getattr(node.song, "total_seconds", None)
        if total is None and (job.seconds is not None or job.offset_seconds):
            total = _whole_seconds(node.path, rate)
    except AudioError as error:
        return source, error
    offset = job.offset_seconds + getattr(node.song, "offset_seconds", 0.0)
    recording = Recording(audio=audio, song=node.song, total_seconds=total, offset_seconds=offset)
    return source, (recording, digest_bytes(audio.tobytes()))


def _whole_seconds(path: str, rate: int) -> float:
    whole: NDArray[np.float32] = read_prompt_audio(path, rate=rate)
    return len(whole) / rate
