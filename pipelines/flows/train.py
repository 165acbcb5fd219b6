"""The flow that trains a model: compose, train the VQ-VAE, encode, train the priors, write the model's folder."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow

from jukebox_core.base.structuring import build
from jukebox_core.families.jukebox.config import level_of
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.training.devices import start_fabric
from pipelines.exit_status import working
from pipelines.orchestration.prefect_tasks import as_prefect_tasks
from pipelines.orchestration.signals import stopping_on_signals
from pipelines.orchestration.training_calls import PLAIN
from pipelines.settings.train import TrainSettings
from stages.handles import FileHandle
from stages.resident import CodecSpec
from stages.training.dataset import songs_of_codes
from stages.training.readiness import encoded_lengths, recorded_lengths
from stages.training.train import Plan

if TYPE_CHECKING:
    from jukebox_core.datasets.songs import Song
    from pipelines.orchestration.training_calls import TrainingStages
    from stages.training.readiness import Length
    from stages.training.train import Trained

log = logging.getLogger("jukebox")


@flow(name="train", persist_result=False, validate_parameters=False)
def train_flow(config: dict[str, Any]) -> str:
    """Trains the parts that `config` names, each from its last checkpoint; returns the model's folder.

    Raises:
        StoppedError: a signal asked the process to stop; the same command continues.
    """
    with stopping_on_signals():
        return str(train(build(TrainSettings, config), as_prefect_tasks(PLAIN)))


def train(settings: TrainSettings, stages: TrainingStages) -> Path:
    """Trains a model's parts in order, then writes its folder; every process of a distributed training calls it."""
    folder, base = Path(settings.folder).expanduser(), replace(settings.model, name=settings.name)
    fabric = start_fabric(settings.training.devices, "32-true")
    if fabric.is_global_zero and settings.album is not None:
        stages.write_album(settings.album)
    fabric.barrier()
    started = base.config
    widened = stages.add_names(started, stages.fetch_vocabularies(base, settings.weights), settings.labels, folder)
    vocabularies, base = widened.vocabularies, replace(base, network=replace(base.network, priors=widened.priors))
    songs, lengths = _music(settings, stages)
    if set(settings.parts) != {"vqvae"}:
        stages.check_labels(base.config, vocabularies, songs)
    stages.check_training(
        base.config, settings.parts, settings.training, vocabularies, lengths, settings.data.validation
    )
    weights = dict(stages.fetch_weights(settings.model, settings.weights, settings.given))
    if settings.data.codes is not None:
        stages.check_codes(base.config, weights["vqvae"], Path(settings.codes))
    with working():
        trained: dict[str, Trained] = {}
        encoded = False
        for role in settings.parts:
            plan = _plan(settings, base.config, started, weights.get(role))
            if role == "vqvae":
                assert settings.audio is not None, "TrainSettings demands recordings to train the VQ-VAE"
                part = stages.train_vqvae(plan, settings.training.vqvae, settings.audio, settings.data.metadata)
                weights[role] = FileHandle.of(part.path, part.sha256)
            else:
                if fabric.is_global_zero and settings.data.codes is None and not encoded:
                    checks, codes = settings.data.checks, Path(settings.codes)
                    codec = CodecSpec.of(base, weights["vqvae"], HardwareConfig())
                    stages.encode_songs(codec, checks, songs, codes)
                    encoded = True
                fabric.barrier()
                level = level_of(role)
                how = settings.training.prior(level)
                part = stages.train_prior(plan, level, how, settings.codes, vocabularies, weights["vqvae"])
            trained[role] = part
        if fabric.is_global_zero:
            stages.write_model(
                folder,
                base,
                started,
                trained,
                weights,
                vocabularies,
                settings.codes,
                _training_note(settings),
                settings.licence,
            )
            log.info("model in %s", folder)
        fabric.barrier()
    return folder


def _plan(settings: TrainSettings, config: Any, started: Any, weights: FileHandle | None) -> Plan:
    """Returns the plan of one part: `config` is the new model's, `started` and `weights` those it starts from."""
    assert weights is not None or settings.start != "model", "TrainSettings.given names the weights to start from"
    return Plan(
        config=config,
        devices=settings.training.devices,
        folder=str(Path(settings.folder).expanduser()),
        checkpoints=settings.checkpoints,
        validation=settings.data.validation,
        start=weights if settings.start == "model" else None,
        started=started,
    )


def _music(settings: TrainSettings, stages: TrainingStages) -> tuple[list[Song], list[Length]]:
    """Returns the training songs, and the lengths of those that are long enough."""
    if settings.data.codes is not None:
        codes = Path(settings.codes)
        return songs_of_codes(codes), encoded_lengths(codes)
    assert settings.audio is not None, "TrainSettings demands recordings or codes"
    songs = stages.find_songs(settings.audio, settings.data.metadata)
    return songs, recorded_lengths(songs, settings.data.checks.shortest_seconds)


def _training_note(settings: TrainSettings) -> str:
    """Returns one line about the training data."""
    album = settings.album
    if album is None:
        return f"music in {Path(settings.audio or settings.codes).name}, {settings.data.validation:.0%} of it held out"
    return (
        f"{album.songs} songs of {album.seconds:g} s on average that the program composed itself "
        f"(`jukebox compose`, seed {album.seed}), {settings.data.validation:.0%} of them held out"
    )
