"""The look before a training: whether music, names, codes and memory suffice for all its parts, before hours of one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jukebox_core.audio.files import audio_seconds
from jukebox_core.base.text import format_bytes
from jukebox_core.datasets.songs import split_of
from jukebox_core.datasets.windows import read_index
from jukebox_core.errors import AudioError, ConfigError, DeviceError
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.families.jukebox.config import JukeboxConfig, PriorConfig, level_of
from jukebox_core.families.jukebox.training.guided_attention import guided_head
from jukebox_core.families.jukebox.training.memory import prior_memory, vqvae_memory
from jukebox_core.runtime.device import free_memory, resolve_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.datasets.songs import Song
    from jukebox_core.families.jukebox.training.config import TrainingConfig
    from jukebox_core.training.config import DevicesConfig
    from jukebox_core.training.memory import TrainingMemory
    from stages.handles import FileHandle

log = logging.getLogger("jukebox")

_NAMED = 3  # songs that an error names


@dataclass(frozen=True, slots=True)
class Length:
    """How long a song is."""

    name: str
    seconds: float


def check_training(
    config: JukeboxConfig,
    parts: Sequence[str],
    training: TrainingConfig,
    vocabularies: Mapping[str, FileHandle],
    lengths: Sequence[Length],
    validation: float,
) -> None:
    """Says what each part of a training learns from and takes, and refuses what would fail on the way.

    Args:
        config: the model that is made.
        parts: what is trained, by role.
        training: how.
        vocabularies: of the model, by role.
        lengths: of the songs that can be used.
        validation: the share of them that is held out.

    Raises:
        ConfigError: a vocabulary is larger than its table, the guided head reads no lyrics, no song is as long as a
            clip or a context, or one is longer than the top prior may know.
        DeviceError: memory does not suffice.
    """
    _check_tables(config, parts, vocabularies)
    for role in parts:
        if role != "vqvae" and training.prior(level_of(role)).lyric_guide:
            guided_head(config.priors[level_of(role)])
    for role in parts:
        _check_lengths(config, role, training, lengths, validation)
    for role in parts:
        _check_memory(config, role, training)


def recorded_lengths(songs: Sequence[Song], shortest: float) -> list[Length]:
    """Returns the lengths of recordings, as their headers tell them, without those that are unreadable or too short."""
    found = []
    for song in songs:
        try:
            seconds = audio_seconds(song.path)
        except AudioError:
            continue
        if seconds >= shortest:
            found.append(Length(song.name, seconds))
    return found


def encoded_lengths(codes: Path) -> list[Length]:
    """Returns the lengths of the songs of a folder of codes."""
    index = read_index(codes)
    return [Length(song.name, song.samples / index.about["sample_rate"]) for song in index.songs]


def check_codes(config: JukeboxConfig, vqvae: FileHandle, codes: Path) -> None:
    """Checks that a folder of codes was made by the VQ-VAE of the model that learns from it.

    Raises:
        ConfigError: another one made them: their numbers would mean something else.
    """
    about = read_index(codes).about
    wanted = {
        "sample_rate": config.vqvae.sample_rate,
        "hops": list(config.vqvae.hops),
        "vqvae_sha256": vqvae.identity,
    }
    for name, value in wanted.items():
        if about.get(name) != value:
            raise ConfigError(
                f"data.codes: {codes} was encoded by {about.get('model')}, whose {name} is {about.get(name)}; "
                f"that of {config.name} is {value}: encode the music again with `jukebox dataset model=...`"
            )


def _check_lengths(
    config: JukeboxConfig, role: str, training: TrainingConfig, lengths: Sequence[Length], validation: float
) -> None:
    if role == "vqvae":
        needed, what = training.vqvae.seconds, f"a clip of {training.vqvae.seconds:g} s"
        remedy = "give longer music, or make clips shorter (training.vqvae.seconds)"
    else:
        prior = config.priors[level_of(role)]
        needed = config.seconds(prior.level, prior.context)
        what, remedy = f"a context of {prior.context:,} tokens ({needed:.2f} s)", "give longer music, or more of it"
    used = [each for each in lengths if each.seconds >= needed]
    if role != "vqvae":
        _check_timing(config, prior, used)
    learnt = [each for each in used if split_of(each.name, validation) == "train"]
    if not learnt:
        longest = max((each.seconds for each in lengths), default=0.0)
        raise ConfigError(
            f"{role}: none of {len(lengths)} songs to learn from is as long as {what}, the longest lasts "
            f"{longest:.2f} s; {remedy}"
        )
    log.info(
        "%s: %d songs to learn from and %d held out are as long as %s; %d are shorter and left out",
        role, len(learnt), len(used) - len(learnt), what, len(lengths) - len(used),
    )  # fmt: skip
    if validation and len(used) == len(learnt):
        log.warning("%s: no song is held out; with a larger data.validation, some would be", role)


def _check_timing(config: JukeboxConfig, prior: PriorConfig, lengths: Sequence[Length]) -> None:
    timing = prior.timing
    if timing is None:
        return
    token = config.seconds(prior.level, 1)
    whole = [Length(each.name, each.seconds // token * token) for each in lengths]
    outside = [each for each in whole if not timing.min_seconds <= each.seconds < timing.max_seconds]
    if outside:
        named = ", ".join(f"{each.name} ({each.seconds:.1f} s)" for each in outside[:_NAMED])
        more = f" and {len(outside) - _NAMED} more" if len(outside) > _NAMED else ""
        raise ConfigError(
            f"level_{prior.level}: {named}{more}: {config.name} knows songs from {timing.min_seconds:g} s to below "
            f"{timing.max_seconds:g} s; take them out or cut them, or set "
            f"model.network.priors.level_{prior.level}.timing"
        )


def _check_tables(config: JukeboxConfig, parts: Sequence[str], vocabularies: Mapping[str, FileHandle]) -> None:
    known = load_vocabularies({role: handle.read() for role, handle in vocabularies.items()})
    for role in parts:
        labels = config.priors[level_of(role)].labels if role != "vqvae" else None
        if labels is None:
            continue
        names = known[labels.vocabulary]
        for noun, ids, rows in (
            ("artists", names.artists.ids, labels.artists),
            ("genres", names.genres.ids, labels.genres),
        ):
            last = max(ids.values())
            if last >= rows:
                raise ConfigError(
                    f"model.network.priors.{role}.labels.{noun} is {rows}, but the vocabulary has ids up to {last}; "
                    f"set it to {last + 1} or more"
                )


def _check_memory(config: JukeboxConfig, role: str, training: TrainingConfig) -> None:
    devices = training.devices
    device = resolve_device("cpu" if devices.accelerator == "cpu" else "auto")
    if role == "vqvae":
        needs, batch = vqvae_memory(config, training.vqvae), training.vqvae.loop.batch
    else:
        how = training.prior(level_of(role))
        needs, batch = prior_memory(config, level_of(role), how), how.loop.batch
    total, free = _on_this_machine(needs, devices, device.type), free_memory(device)
    log.info(
        "%s: about %s of memory: weights %s, optimiser %s, average %s, gradients and a batch of %d %s",
        role, *map(format_bytes, (total, needs.weights, needs.optimiser, needs.average)), batch,
        format_bytes(needs.step),
    )  # fmt: skip
    if total > free:
        raise DeviceError(
            f"{role}: training takes about {format_bytes(total)} of memory, but {device} has "
            f"{format_bytes(free)} free; make training.{role}.loop.batch smaller than {batch}, set "
            f"training.{role}.loop.checkpointing=true, or choose a smaller model"
        )


def _on_this_machine(needs: TrainingMemory, devices: DevicesConfig, kind: str) -> int:
    """Returns what the processes of one machine, or the one on a device of its own, take."""
    sharing = devices.devices * devices.nodes if devices.strategy == "fsdp" else 1
    kept = (needs.weights + needs.optimiser + needs.average) // sharing
    each = kept + needs.step + needs.working
    return each * (devices.devices if kind == "cpu" else 1)
