"""The flow that trains a model: compose, train the codec, encode, train the other parts, write the model's folder."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.paths import user_path
from jukebox_core.composer.album import plan_album
from jukebox_core.datasets.recordings import usable_recordings
from jukebox_core.datasets.songs import split_of
from jukebox_core.datasets.source import check_codes_folder, claim, source_of, source_of_codes
from jukebox_core.models.stored import to_stored
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.training.devices import start_fabric
from jukebox_core.training.family import SongLength
from pipelines.exit_status import working
from pipelines.orchestration.flow_runs import run_flow
from pipelines.orchestration.signals import stopping_on_signals
from pipelines.orchestration.training_calls import PLAIN
from stages.resident import CodecSpec
from stages.training.dataset import songs_of_codes
from stages.training.model_folder import ModelPlan, check_model_folder
from stages.training.readiness import encoded_lengths
from stages.training.train import TRAINING, PartPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_fabric import Fabric

    from jukebox_core.datasets.songs import Song
    from jukebox_core.datasets.source import CodesSource
    from jukebox_core.models.presets import ModelSettings
    from pipelines.orchestration.training_calls import TrainingStages
    from pipelines.settings.train import TrainSettings
    from stages.handles import FileHandle
    from stages.training.train import Trained

log = logging.getLogger("jukebox")


def train_flow(settings: TrainSettings) -> Path:
    """Trains the parts that the settings name, each from its last checkpoint on; returns the model's folder.

    Raises:
        StoppedError: a signal asked the process to stop; the same command resumes.
    """

    def work(stages: TrainingStages) -> Path:
        with stopping_on_signals():
            return train(settings, stages)

    return run_flow("train", to_stored(settings), PLAIN, work, "recorded", settings.storage.root)


def train(settings: TrainSettings, stages: TrainingStages) -> Path:
    """Trains a model's parts in order, then writes its folder; every process of a distributed training calls it."""
    folder, model = user_path(settings.folder), replace(settings.model, name=settings.name)
    fabric = start_fabric(settings.training.devices, "32-true")
    # 1) music and labels
    check_model_folder(folder, settings.roles)
    if fabric.is_global_zero and settings.album is not None and settings.streamed is None:
        stages.write_album(settings.album)
    fabric.barrier()
    labelled = stages.add_labels(model, stages.fetch_vocabularies(model, settings.weights), settings.labels, folder)
    vocabularies, model = labelled.vocabularies, replace(model, network=labelled.network)
    songs = _songs(settings, stages)
    # 2) checks of everything, before hours of training
    claimed = _check_source(settings, songs)
    if any(settings.family.learns_from_codes(role) for role in settings.roles):
        stages.check_labels(model, vocabularies, songs)
    lengths = _lengths(settings, stages, fabric, songs)
    validation = settings.data.validation
    stages.check_training(model, settings.roles, settings.training, vocabularies, lengths, validation)
    weights = dict(stages.fetch_weights(settings.model, settings.weights, settings.given))
    codec_role = settings.family.codec_role
    if codec_role is not None and settings.data.codes is not None:
        stages.check_codes(model, weights[codec_role], Path(settings.codes))
    if fabric.is_global_zero:
        for part, source in claimed.items():
            claim(part, source)
    with working():
        # 3) parts, each from its last checkpoint on
        trained: dict[str, Trained] = {}
        encoded = settings.data.codes is not None
        for role in settings.roles:
            if codec_role is not None and settings.family.learns_from_codes(role) and not encoded:
                _encode(settings, stages, fabric, model, weights[codec_role], songs)
                encoded = True
            trained[role] = stages.train_part(_part_plan(settings, model, role, weights, vocabularies))
            weights[role] = trained[role].weights
        # 4) the model's folder
        if fabric.is_global_zero:
            finished = ModelPlan(
                base=model,
                start_config=settings.model.config,
                trained=trained,
                given={role: handle for role, handle in weights.items() if role not in trained},
                vocabularies=vocabularies,
                codes=settings.codes,
                data=_training_note(settings, lengths),
                licence=settings.licence,
                tuned_from=settings.model.name if settings.start == "model" else None,
            )
            stages.write_model(folder, finished)
            log.info("model in %s", folder)
        fabric.barrier()
    return folder


def _part_plan(
    settings: TrainSettings,
    model: ModelSettings,
    role: str,
    weights: Mapping[str, FileHandle],
    vocabularies: Mapping[str, FileHandle],
) -> PartPlan:
    """Returns the plan of one part of `model`; `weights` has the codec's, if the part learns from codes."""
    codec_role = settings.family.codec_role if settings.family.learns_from_codes(role) else None
    return PartPlan(
        family=model.family,
        role=role,
        config=model.config,
        training=settings.training,
        validation=settings.data.validation,
        audio=settings.audio,
        metadata=settings.data.metadata,
        codes=settings.codes,
        vocabularies=vocabularies,
        codec=weights[codec_role] if codec_role is not None else None,
        start=weights[role] if settings.start == "model" else None,
        start_config=settings.model.config,
        folder=str(user_path(settings.folder)),
        recordings=str(_record(settings)) if settings.data.codes is None and settings.streamed is None else None,
        most_unreadable=settings.data.checks.most_unreadable,
        checkpoints=settings.checkpoints,
        album=settings.streamed,
    )


def _songs(settings: TrainSettings, stages: TrainingStages) -> list[Song]:
    """Returns the training songs: recordings, or those of a folder of codes; none that are composed later."""
    if settings.streamed is not None:
        return []
    if settings.data.codes is not None:
        return songs_of_codes(Path(settings.codes))
    assert settings.audio is not None, "TrainSettings requires recordings or codes"
    return stages.find_songs(settings.audio, settings.data.metadata)


def _check_source(settings: TrainSettings, songs: list[Song]) -> dict[Path, CodesSource]:
    """Returns the folder of each part's training, and the music that it learns from; it resumes with no other.

    Raises:
        ConfigError: a part was begun, or the codes were made, with other music.
    """
    if settings.streamed is not None:
        return {}
    from_codes = settings.data.codes is not None
    source = source_of_codes(settings.codes) if from_codes else source_of(songs)
    folders = [user_path(settings.folder) / TRAINING / role for role in settings.roles]
    for folder in folders if from_codes else [*folders, Path(settings.codes)]:
        check_codes_folder(folder, source, songs)
    return dict.fromkeys(folders, source)


def _lengths(settings: TrainSettings, stages: TrainingStages, fabric: Fabric, songs: list[Song]) -> list[SongLength]:
    """Returns the durations of the songs that can be used; the first process checks recordings, the others wait."""
    if settings.streamed is not None:
        return [SongLength(track.name, track.seconds) for track in plan_album(settings.streamed)]
    if settings.data.codes is not None:
        return encoded_lengths(Path(settings.codes))
    record = _record(settings)
    if fabric.is_global_zero:
        rate = settings.model.config.sample_rate
        stages.check_training_songs(settings.data.checks, songs, rate, record, settings.model)
    fabric.barrier()
    return [SongLength(name, seconds) for name, seconds in usable_recordings(record).items()]


def _record(settings: TrainSettings) -> Path:
    return user_path(settings.folder) / TRAINING / "recordings.json"


def _encode(
    settings: TrainSettings,
    stages: TrainingStages,
    fabric: Fabric,
    model: ModelSettings,
    codec: FileHandle,
    songs: list[Song],
) -> None:
    """Encodes all songs in the first process; the others wait for it."""
    if fabric.is_global_zero:
        spec = CodecSpec.of(model, codec, HardwareConfig())
        stages.encode_songs(spec, settings.data.checks, songs, Path(settings.codes))
    fabric.barrier()


def _training_note(settings: TrainSettings, lengths: list[SongLength]) -> str:
    """Returns one line about the training data, with how many songs were held out."""
    held_out = sum(split_of(each.name, settings.data.validation) == "validation" for each in lengths)
    held = f"{held_out} of them held out" if held_out else "none of them held out"
    album = settings.album
    if album is None:
        return f"{len(lengths)} songs in {Path(settings.audio or settings.codes).name}, {held}"
    each = "" if settings.streamed is None else ", others in every epoch"
    return (
        f"{album.songs} songs{each} of {album.seconds:g} s on average that the program composed itself "
        f"(`jukebox compose`, seed {album.seed}), {held}"
    )
