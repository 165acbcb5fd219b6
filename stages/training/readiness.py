"""Checks before a training: whether recordings, labels, codes and memory suffice for all parts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jukebox_core.base.text import format_bytes
from jukebox_core.datasets.songs import split_of
from jukebox_core.datasets.windows import read_index
from jukebox_core.errors import ConfigError, DeviceError
from jukebox_core.runtime.device import free_memory, resolve_device
from jukebox_core.training.family import SongLength
from stages.sound.encode import maker_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.training.config import DevicesConfig
    from jukebox_core.training.family import RequiredLength, TrainingSettings
    from jukebox_core.training.memory import TrainingMemory
    from stages.handles import FileHandle

log = logging.getLogger("jukebox")


def check_training(
    model: ModelSettings,
    parts: Sequence[str],
    training: TrainingSettings,
    vocabularies: Mapping[str, FileHandle],
    lengths: Sequence[SongLength],
    validation: float,
) -> None:
    """Checks that every part of a training can run to its end, and logs its data and its estimated memory.

    Args:
        model: the model that is made.
        parts: the roles that are trained.
        training: the settings section ``training``.
        vocabularies: of the model, by role.
        lengths: of the usable songs.
        validation: share of the songs that is held out.

    Raises:
        ConfigError: the model or the recordings do not fit the settings, or no song is long enough for a part.
        DeviceError: memory does not suffice.
    """
    family, config = model.opened.training(), model.config
    paths = {role: handle.read() for role, handle in vocabularies.items()}
    family.check(config, parts, training, paths, lengths)
    for role in parts:
        _check_lengths(role, family.required_length(config, role, training), lengths, validation)
    for role in parts:
        _check_memory(role, family.estimate_memory(config, role, training), training)


def encoded_lengths(codes: Path) -> list[SongLength]:
    """Returns the durations of the songs of a folder of codes; StoreError if it is no finished one."""
    index = read_index(codes)
    return [SongLength(song.name, song.samples / index.about["sample_rate"]) for song in index.songs]


def check_codes(model: ModelSettings, codec: FileHandle, codes: Path) -> None:
    """Checks that a folder of codes was made by the codec of the model that learns from it.

    Raises:
        ConfigError: another one made them, so that the same numbers mean other sounds.
        StoreError: it is no finished folder of codes.
    """
    about, config = read_index(codes).about, model.config
    expected = {
        "sample_rate": config.sample_rate,
        "hops": list(config.hops),
        maker_key(model.family): codec.identity,
    }
    for name, value in expected.items():
        if about.get(name) != value:
            raise ConfigError(
                f"data.codes: {codes} was encoded by {about.get('model')}, whose {name} is {about.get(name)}; "
                f"that of {config.name} is {value}: encode the music again with `jukebox dataset model=...`"
            )


def _check_lengths(role: str, required: RequiredLength, lengths: Sequence[SongLength], validation: float) -> None:
    used = [each for each in lengths if each.seconds >= required.seconds]
    train = [each for each in used if split_of(each.name, validation) == "train"]
    if not train:
        longest = max((each.seconds for each in lengths), default=0.0)
        raise ConfigError(
            f"{role}: none of {len(lengths)} songs to learn from is as long as {required.name}, the longest lasts "
            f"{longest:.2f} s; {required.remedy}"
        )
    log.info(
        "%s: %d songs to learn from and %d held out are as long as %s; %d are shorter and left out",
        role, len(train), len(used) - len(train), required.name, len(lengths) - len(used),
    )  # fmt: skip
    if validation and len(used) == len(train):
        log.warning("%s: no song is held out; with a larger data.validation, some would be", role)


def _check_memory(role: str, needs: TrainingMemory, training: TrainingSettings) -> None:
    devices, batch_size = training.devices, training.part(role).loop.batch_size
    device = resolve_device("cpu" if devices.accelerator == "cpu" else "auto")
    total, free = _bytes_on_device(needs, devices, device.type), free_memory(device)
    log.info(
        "%s: about %s of memory: weights %s, optimiser %s, moving average %s, gradients and a batch of %d %s",
        role, *map(format_bytes, (total, needs.weights, needs.optimiser, needs.ema)), batch_size,
        format_bytes(needs.step),
    )  # fmt: skip
    if total > free:
        raise DeviceError(
            f"{role}: training takes about {format_bytes(total)} of memory, but {device} has "
            f"{format_bytes(free)} free; make training.{role}.loop.batch_size smaller than {batch_size}, set "
            f"training.{role}.loop.gradient_checkpointing=true, or choose a smaller model"
        )


def _bytes_on_device(needs: TrainingMemory, devices: DevicesConfig, kind: str) -> int:
    """Returns the bytes of one process on its device, or of all processes of a machine that train on its CPU."""
    shards = devices.world_size if devices.strategy == "fsdp" else 1
    state = (needs.weights + needs.optimiser + needs.ema) // shards
    process = state + needs.step + needs.working
    return process * (devices.devices if kind == "cpu" else 1)
