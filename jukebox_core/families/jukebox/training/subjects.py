"""The VQ-VAE and the priors in training: module, data, and the samples of an evaluation."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.base.hashing import digest_file
from jukebox_core.base.structuring import to_plain
from jukebox_core.datasets.clips import AudioClips
from jukebox_core.datasets.recordings import usable_recordings
from jukebox_core.datasets.songs import scan_songs, select_split
from jukebox_core.datasets.windows import INDEX_NAME, CodeWindows
from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.checkpoints.initialise import new_prior, new_vqvae
from jukebox_core.families.jukebox.checkpoints.loading import load_prior, load_vqvae
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.families.jukebox.config import CODEC, level_of
from jukebox_core.families.jukebox.model.convnet import ResidualStack
from jukebox_core.families.jukebox.model.transformer import Block
from jukebox_core.families.jukebox.training.batch import collate
from jukebox_core.families.jukebox.training.label_tables import widen
from jukebox_core.families.jukebox.training.prior import LabelledWindows, PriorStep
from jukebox_core.families.jukebox.training.samples import log_continuation, log_reconstruction
from jukebox_core.families.jukebox.training.vqvae import VQVAEStep, measure_bandwidths
from jukebox_core.training.config import training_causes
from jukebox_core.training.loop import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from jukebox_core.datasets.clips import Clip
    from jukebox_core.datasets.songs import Song, Split
    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.training.config import LossConfig, PriorTraining, TrainingConfig, VQVAETraining
    from jukebox_core.training.family import PartInputs
    from jukebox_core.training.log import Log

log = logging.getLogger("jukebox")

_BANDWIDTH_CLIPS = 64  # clips from which the bandwidths of the losses are measured


def vqvae_causes(inputs: PartInputs) -> Mapping[str, Any]:
    """Returns hyperparameters, sizes and songs; ConfigError as `scan_songs`."""
    training: TrainingConfig = inputs.training
    config: JukeboxConfig = inputs.config
    songs = [song.name for song in _songs(inputs)]
    return {"training": _causes(training.vqvae), "vqvae": to_plain(config.vqvae), "songs": songs}


def vqvae_subject(inputs: PartInputs) -> Subject:
    """Returns the VQ-VAE with clips of recordings.

    Raises:
        ConfigError: no recordings, or none as long as a clip.
        CheckpointError: the weights to start from do not fit.
    """
    config: JukeboxConfig = inputs.config
    training: VQVAETraining = inputs.training.vqvae
    lengths = usable_recordings(inputs.recordings) if inputs.recordings is not None else None
    songs = [song for song in _songs(inputs) if lengths is None or song.name in lengths]

    def clips(part: Split, *, augment: bool) -> AudioClips | None:
        chosen = select_split(songs, part, inputs.validation)
        return _clips(chosen, lengths, inputs, augment=augment) if chosen else None

    # 1) data
    train = clips("train", augment=training.augment)
    if train is None:
        raise ConfigError(f"none of {len(songs)} recordings is left to learn from; make data.validation smaller")
    eval_data = clips("validation", augment=False)
    # 2) bandwidths of the losses
    loss = _measured_loss(training, train) if training.measure_bandwidths else training.loss
    # 3) module
    start = inputs.start
    vqvae = load_vqvae(config, start) if start is not None else new_vqvae(config, training.loop.seed)
    vqvae.train().requires_grad_(requires_grad=True)
    expected = _expected_counts(inputs) if start is not None else None
    step = VQVAEStep(vqvae, loss, training.codebook, expected_counts=expected)
    example = eval_data or train

    def log_samples(to: Log, number: int) -> None:
        log_reconstruction(to, number, step, collate_clips([example[0]]), inputs.folder)

    return Subject(
        name=CODEC,
        step=step,
        units=(ResidualStack,),
        collate=collate_clips,
        data=train,
        eval_data=eval_data,
        log_samples=log_samples,
        network=vqvae,
    )


def prior_causes(inputs: PartInputs, role: str) -> Mapping[str, Any]:
    """Returns hyperparameters, sizes, and the digests of codes and vocabularies."""
    training: TrainingConfig = inputs.training
    config: JukeboxConfig = inputs.config
    return {
        "training": _causes(training.prior(role)),
        "prior": to_plain(config.priors[level_of(role)]),
        "codes": digest_file(inputs.codes / INDEX_NAME),
        "vocabularies": {name: digest_file(path) for name, path in inputs.vocabularies.items()},
    }


def prior_subject(inputs: PartInputs, role: str) -> Subject:
    """Returns the prior of `role` with windows of codes and their labels.

    Raises:
        ConfigError: no codes, or none as long as a window.
        CheckpointError: the weights to start from do not fit.
    """
    training = inputs.training.prior(role)
    train = _windows(inputs, role, "train", training)
    eval_data = _eval_windows(inputs, role) if inputs.validation else None
    prior = _initial_prior(inputs, role)
    example = eval_data or train
    assert inputs.codec is not None, "priors learn from codes, so the weights of the VQ-VAE are known"
    codec, config = inputs.codec, inputs.config
    vqvae = cache(lambda: load_vqvae(config, codec))

    def log_samples(to: Log, number: int) -> None:
        log_continuation(to, number, prior, vqvae(), collate([example[0]]), inputs.folder)

    return Subject(
        name=role,
        step=PriorStep(prior, training.guided_attention_weight, training.guided_attention_sigma),
        units=(Block,),
        collate=collate,
        data=train,
        eval_data=eval_data,
        log_samples=log_samples,
        network=prior,
    )


def _causes(training: VQVAETraining | PriorTraining) -> dict[str, Any]:
    """Returns hyperparameters as plain data; without those of later versions that change nothing: digests stay."""
    found = training_causes(training)
    if "loss" in found and not found["loss"]["log_spectral"]:
        del found["loss"]["log_spectral"]
    if "first_share" in found and not found["first_share"]:
        del found["first_share"]
    return found


def collate_clips(clips: Sequence[Clip]) -> Tensor:
    """Returns the first channel of the clips as a batch, [B, T]."""
    return torch.stack([clip.audio_TC[:, 0] for clip in clips])


def _songs(inputs: PartInputs) -> list[Song]:
    assert inputs.audio is not None, "the settings require recordings to train the VQ-VAE"
    return scan_songs(inputs.audio, inputs.metadata)


def _clips(
    songs: Sequence[Song], lengths: Mapping[str, float] | None, inputs: PartInputs, *, augment: bool
) -> AudioClips:
    config, training = inputs.config, inputs.training.vqvae
    return AudioClips(
        songs,
        seconds=training.seconds,
        sample_rate=config.sample_rate,
        channels=1,
        seed=training.loop.seed,
        augment=augment,
        lengths=lengths,
        most_unreadable=inputs.most_unreadable,
    )


def _expected_counts(inputs: PartInputs) -> list[float]:
    """Returns how often a step is expected to choose an entry of each level's codebook: tokens over entries."""
    config, training = inputs.config.vqvae, inputs.training
    tokens = [int(training.vqvae.seconds * config.sample_rate) // hop for hop in config.hops]
    return [count * training.devices.world_size / config.bins for count in tokens]


def _measured_loss(training: VQVAETraining, data: AudioClips) -> LossConfig:
    """Returns the loss settings with bandwidths measured on clips spread over the data."""
    count = min(_BANDWIDTH_CLIPS, len(data))
    clips = (collate_clips([data[place * len(data) // count]]) for place in range(count))
    found = measure_bandwidths(clips, training.loss.resolution)
    log.info("%s: bandwidths l1 %.4g, l2 %.4g, spec %.4g", CODEC, found.l1, found.l2, found.spec)
    return replace(training.loss, bandwidths=found)


def _windows(inputs: PartInputs, role: str, part: Split, how: PriorTraining | None = None) -> LabelledWindows:
    """Returns the windows of a split: shifted, with dropout, as `how` says; None: as they lie in their songs."""
    config: JukeboxConfig = inputs.config
    level = level_of(role)
    prior, seed = config.priors[level], inputs.training.prior(role).loop.seed
    found = CodeWindows(
        inputs.codes,
        level=level,
        context=prior.context,
        split=part,
        validation=inputs.validation,
        seed=seed,
        augment=how is not None and how.augment,
        first_share=how.first_share if how is not None else 0.0,
        most_unreadable=inputs.most_unreadable,
    )
    names = load_vocabularies(inputs.vocabularies)
    dropout = how.label_dropout if how is not None else 0.0
    return LabelledWindows(found, prior, config.hops[level], names, label_dropout=dropout, seed=seed)


def _eval_windows(inputs: PartInputs, role: str) -> LabelledWindows | None:
    """Returns the windows of held-out songs; None if no such song is as long as a window."""
    try:
        return _windows(inputs, role, "validation")
    except ConfigError:
        return None


def _initial_prior(inputs: PartInputs, role: str) -> Prior:
    """Returns the prior before its first step, from stored weights or random ones, with room for new labels."""
    level = level_of(role)
    if inputs.start is None:
        prior = new_prior(inputs.config, level, inputs.training.prior(role).loop.seed)
    else:
        prior = load_prior(inputs.start_config, level, inputs.start)
        labels = inputs.config.priors[level].labels
        if labels is not None:
            widen(prior, labels)
    return prior.train().requires_grad_(requires_grad=True)
