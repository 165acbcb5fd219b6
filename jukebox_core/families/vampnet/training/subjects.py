"""The codec and the transformers in training: module and data."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.base.hashing import digest_file
from jukebox_core.base.structuring import to_plain
from jukebox_core.datasets.clips import AudioClips
from jukebox_core.datasets.recordings import usable_recordings
from jukebox_core.datasets.songs import scan_songs, select_split
from jukebox_core.datasets.windows import INDEX_NAME, CodeWindows
from jukebox_core.errors import ConfigError
from jukebox_core.families.vampnet.checkpoints.loading import load_codec, load_transformer
from jukebox_core.families.vampnet.config import COARSE, COARSE_LEVEL, CODEC, FINE_LEVEL
from jukebox_core.families.vampnet.training.clips import LevelledClips, stack
from jukebox_core.families.vampnet.training.codebooks import fit_codebooks
from jukebox_core.families.vampnet.training.codec_step import CodecStep
from jukebox_core.families.vampnet.training.initialise import (
    answer_by_frequency,
    new_codec,
    new_transformer,
    with_updates,
)
from jukebox_core.families.vampnet.training.memory import CODEC_UNITS, TRANSFORMER_UNITS
from jukebox_core.families.vampnet.training.transformer_step import TransformerStep, stack_grids
from jukebox_core.training.config import training_causes
from jukebox_core.training.loop import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jukebox_core.datasets.songs import Split
    from jukebox_core.families.vampnet.config import VampNetConfig
    from jukebox_core.families.vampnet.model.codec import Codec
    from jukebox_core.families.vampnet.model.transformer import VampTransformer
    from jukebox_core.families.vampnet.training.config import CodecTraining, TransformerTraining
    from jukebox_core.training.family import PartInputs

_COUNTED = 1000  # excerpts, spread over the songs, of which a new transformer knows the frequencies of codes


def codec_causes(inputs: PartInputs) -> Mapping[str, Any]:
    """Returns hyperparameters, sizes and songs; ConfigError as `scan_songs`."""
    config: VampNetConfig = inputs.config
    songs = [song.name for song in scan_songs(_audio(inputs), inputs.metadata)]
    return {
        "training": training_causes(inputs.training.codec),
        "codec": to_plain(config.network.codec),
        "coarse": config.network.coarse.n_codebooks,
        "songs": songs,
    }


def codec_subject(inputs: PartInputs) -> Subject:
    """Returns the codec with clips of recordings.

    Raises:
        ConfigError: no recordings, or none as long as a clip.
        CheckpointError: the weights to start from are no codec.
    """
    training: CodecTraining = inputs.training.codec
    train, held_out = _clips(inputs, "train"), _clips(inputs, "validation")
    if train is None:
        raise ConfigError("no recording is left to learn from; make data.validation smaller")
    codec = _initial_codec(inputs, train) if inputs.start is None else load_codec(inputs.start)
    return Subject(
        name=CODEC,
        step=CodecStep(codec.train().requires_grad_(requires_grad=True), training),
        units=CODEC_UNITS,
        collate=stack,
        data=train,
        eval_data=held_out,
        network=codec,
        about={"kwargs": asdict(codec.config)},
    )


def transformer_causes(inputs: PartInputs, role: str) -> Mapping[str, Any]:
    """Returns hyperparameters, sizes, and the digests of the codes and of the codec, whose vectors they mean."""
    config: VampNetConfig = inputs.config
    assert inputs.codec is not None, "transformers learn from codes, so the weights of the codec are known"
    return {
        "training": training_causes(inputs.training.transformer(role)),
        "sizes": to_plain(config.sizes(role)),
        "codes": digest_file(inputs.codes / INDEX_NAME),
        "codec": digest_file(inputs.codec),
    }


def transformer_subject(inputs: PartInputs, role: str) -> Subject:
    """Returns the transformer of `role` with windows of grids of codes.

    Raises:
        ConfigError: no codes, or none as long as a window.
        CheckpointError: codec or weights to start from do not fit.
    """
    training: TransformerTraining = inputs.training.transformer(role)
    train, held_out = _grids(inputs, role, "train"), None
    if inputs.validation:
        try:
            held_out = _grids(inputs, role, "validation")
        except ConfigError:  # no held-out song is as long as a window
            held_out = None
    model = _initial_transformer(inputs, role, train)
    return Subject(
        name=role,
        step=TransformerStep(model, training.label_smoothing, training.loop.seed),
        units=TRANSFORMER_UNITS,
        collate=stack_grids,
        data=train,
        eval_data=held_out,
        network=model,
        about={"kwargs": asdict(model.config)},
    )


def _audio(inputs: PartInputs) -> str:
    assert inputs.audio is not None, "the settings require recordings to train the codec"
    return inputs.audio


def _clips(inputs: PartInputs, part: Split) -> LevelledClips | None:
    """Returns clips of the songs of a part; None if it has no song."""
    config: VampNetConfig = inputs.config
    training: CodecTraining = inputs.training.codec
    lengths = usable_recordings(inputs.recordings) if inputs.recordings is not None else None
    songs = [song for song in scan_songs(_audio(inputs), inputs.metadata) if lengths is None or song.name in lengths]
    chosen = select_split(songs, part, inputs.validation)
    if not chosen:
        return None
    learning = part == "train"
    clips = AudioClips(
        chosen,
        seconds=training.seconds,
        sample_rate=config.sample_rate,
        channels=1,
        seed=training.loop.seed,
        augment=learning,
        lengths=lengths,
        most_unreadable=inputs.most_unreadable,
    )
    return LevelledClips(clips, config.sample_rate, training.gain_db if learning else 0.0, training.loop.seed)


@torch.no_grad()
def _initial_codec(inputs: PartInputs, clips: LevelledClips) -> Codec:
    """Returns a new codec, whose codebooks are fitted to clips spread over the recordings."""
    config: VampNetConfig = inputs.config
    training: CodecTraining = inputs.training.codec
    sizes, seed = training.networks.config(config.network.codec), training.loop.seed
    codec = new_codec(sizes, seed, lapped=training.initial == "lapped_transform")
    count = min(len(clips), max(1, round(training.fitted_seconds / training.seconds)))
    rows = [codec.encoder(clips[place * len(clips) // count][None, None])[0].T for place in range(count)]
    fit_codebooks(codec, torch.cat(rows), seed)
    return codec


def _grids(inputs: PartInputs, role: str, part: Split) -> CodeWindows:
    config: VampNetConfig = inputs.config
    training: TransformerTraining = inputs.training.transformer(role)
    return CodeWindows(
        inputs.codes,
        level=COARSE_LEVEL if role == COARSE else FINE_LEVEL,
        context=config.network.codec.tokens_of(training.seconds),
        split=part,
        validation=inputs.validation,
        seed=training.loop.seed,
        augment=part == "train",
        most_unreadable=inputs.most_unreadable,
    )


def _initial_transformer(inputs: PartInputs, role: str, windows: CodeWindows) -> VampTransformer:
    """Returns the transformer before its first step, from stored weights or random ones, perhaps with updates."""
    config: VampNetConfig = inputs.config
    training: TransformerTraining = inputs.training.transformer(role)
    codec, seed = _codec(inputs.codec), training.loop.seed
    if inputs.start is None:
        sizes = config.sizes(role)
        model = new_transformer(sizes, codec.codebooks(sizes.n_codebooks).detach(), seed)
        apart = max(1, len(windows) // _COUNTED)
        answer_by_frequency(model, (windows[place].codes_T for place in range(0, len(windows), apart)))
    else:
        model = load_transformer(inputs.start, codec)
    if training.lora_rank:
        return with_updates(model, training.lora_rank, seed).train()
    return model.train().requires_grad_(requires_grad=True)


def _codec(path: Path | None) -> Codec:
    assert path is not None, "transformers learn from codes, so the weights of the codec are known"
    return load_codec(path)
