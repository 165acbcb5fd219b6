"""Trains one part of a model, and writes its weights into the model's folder."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest, digest_file
from jukebox_core.base.records import clear_place, read_json
from jukebox_core.base.structuring import build
from jukebox_core.errors import ConfigError, RecordError
from jukebox_core.family import open_family
from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.training.devices import start_fabric
from jukebox_core.training.family import PartInputs, TrainedPart
from jukebox_core.training.loop import TrainingLoop
from jukebox_core.training.weights import half_weights
from stages import stopping
from stages.handles import FileHandle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.composer.config import AlbumConfig
    from jukebox_core.training.loop import Subject

log = logging.getLogger("jukebox")

TRAINING = "training"  # the folder, in a model's, of its training: checkpoints, logs, records


@dataclass(frozen=True, kw_only=True)
class PartPlan:
    """A part of a model and the handles of everything that it is trained from."""

    family: str
    role: str
    config: Any  # the family's `ModelConfig` of the model that is made
    training: Any  # the family's `TrainingSettings`
    validation: float  # share of the songs that is held out
    audio: str | None  # folder of recordings
    metadata: str | None
    codes: str  # folder of codes
    vocabularies: Mapping[str, FileHandle]  # by role
    codec: FileHandle | None  # weights of the codec, if the part learns from codes
    start: FileHandle | None  # weights to start from; None: random initialisation
    start_config: Any  # `ModelConfig` that these weights belong to: its tables of labels may have fewer rows
    folder: str  # of the model that is made
    recordings: str | None = None  # record of the recordings that can be used, if the part learns from recordings
    most_unreadable: float = 0.1  # largest share of songs that may become unreadable during the training
    checkpoints: str | None = None  # folder of checkpoints, any URL that fsspec supports; None: beside the log
    album: AlbumConfig | None = None  # songs that are composed while the part learns, in place of recordings

    def inputs(self) -> PartInputs:
        """Returns the same with verified local files; CheckpointError if a file is gone or has changed."""
        return PartInputs(
            config=self.config,
            training=self.training,
            validation=self.validation,
            audio=self.audio,
            metadata=self.metadata,
            codes=Path(self.codes),
            vocabularies={name: handle.read() for name, handle in self.vocabularies.items()},
            codec=self.codec.read() if self.codec is not None else None,
            start=self.start.read() if self.start is not None else None,
            start_config=self.start_config,
            folder=self.log_folder,
            recordings=Path(self.recordings) if self.recordings is not None else None,
            most_unreadable=self.most_unreadable,
            album=self.album,
        )

    @property
    def log_folder(self) -> Path:
        """Folder of the part's log, record and, unless they have a URL of their own, checkpoints."""
        return Path(self.folder) / TRAINING / self.role

    @property
    def record(self) -> Path:
        """The file that is written when the part is trained: its settings, steps and metrics."""
        return self.log_folder / "trained.json"

    @property
    def weights(self) -> Path:
        """The file of the trained weights."""
        return Path(self.folder) / f"{self.role}.safetensors"


@dataclass(frozen=True, slots=True)
class Trained:
    """A part that was trained to its last step, as its record says."""

    role: str
    weights: FileHandle
    steps: int
    metrics: dict[str, float]  # on held-out data

    def part(self) -> TrainedPart:
        """Returns the same with a verified local file."""
        return TrainedPart(self.weights.read(), self.steps, self.metrics)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    """The file ``trained.json``."""

    steps: int
    settings: str  # digest of all that decides the weights
    metrics: dict[str, float]  # on held-out data
    sha256: str  # of the weights


def train_part(plan: PartPlan) -> Trained:
    """Trains a part from its last checkpoint on; idempotent: a part that is trained already is returned at once.

    Raises:
        ConfigError: no recording is long enough.
        LabelError: a label is not in the vocabulary.
        TrainingError: the loss is not finite, or the checkpoint belongs to another training.
        StoppedError: a signal asked the process to stop; its state is stored.
    """
    # 1) a record with the same causes
    family, inputs = open_family(plan.family).training(), plan.inputs()
    start = plan.start.sha256 if plan.start is not None else None
    settings = digest({"start": start, **family.causes(plan.role, inputs)})
    trained = _recorded(plan, settings)
    if trained is not None:
        return trained
    # 2) the loop, until the last step or a signal
    subject = family.subject(plan.role, inputs)
    _run(plan, subject, settings)
    # 3) the record of it
    trained = _recorded(plan, settings)
    assert trained is not None
    return trained


def _run(plan: PartPlan, subject: Subject, settings: str) -> None:
    """Trains, and writes weights and record after the last step."""
    how = plan.training.part(plan.role)
    fabric = start_fabric(plan.training.devices, how.loop.precision, subject.units)
    checkpoints = f"{plan.checkpoints.rstrip('/')}/{plan.role}" if plan.checkpoints is not None else None
    outcome = TrainingLoop(fabric, subject, how, plan.log_folder, log.info, checkpoints).run(stopping.stop_requested)
    if not outcome.finished:
        stopping.check(f"{plan.role} is stored at step {outcome.step:,} of {how.loop.max_steps:,}")
    weights = half_weights(subject.network if subject.network is not None else subject.step, subject.exact)
    if fabric.is_global_zero:
        about = {"role": plan.role, "model": plan.config.name, "steps": outcome.step, "trained": True}
        save_safetensors(weights, plan.weights, {**subject.about, **about})
        sha256 = digest_file(plan.weights)
        record = _Record(steps=outcome.step, settings=settings, metrics=outcome.metrics, sha256=sha256)
        clear_place(plan.record)
        with atomic_write(plan.record) as file:
            file.write(json.dumps(asdict(record), indent=1).encode())
    fabric.barrier()


def _recorded(plan: PartPlan, settings: str) -> Trained | None:
    """Returns the trained part, if its weights exist and its record has the digest `settings`."""
    try:
        found = build(_Record, read_json(plan.record))
    except (FileNotFoundError, RecordError, ConfigError):  # the last checkpoint says what is trained
        return None
    if not plan.weights.is_file() or found.settings != settings or found.sha256 != digest_file(plan.weights):
        return None
    return Trained(plan.role, FileHandle.of(plan.weights, found.sha256), found.steps, found.metrics)
