"""Trains one part of a model, and leaves its weights in the model's folder."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest, digest_file
from jukebox_core.base.structuring import to_plain
from jukebox_core.datasets.clips import AudioClips
from jukebox_core.datasets.songs import scan_songs, select_split
from jukebox_core.datasets.windows import CodeWindows
from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.checkpoints.initialise import new_prior, new_vqvae
from jukebox_core.families.jukebox.checkpoints.loading import load_prior, load_vqvae
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.families.jukebox.model.convnet import ResidualStack
from jukebox_core.families.jukebox.model.transformer import Block
from jukebox_core.families.jukebox.training.label_tables import widen
from jukebox_core.families.jukebox.training.prior import LabelledWindows, PriorStep, collate
from jukebox_core.families.jukebox.training.samples import show_continuation, show_reconstruction
from jukebox_core.families.jukebox.training.vqvae import VQVAEStep, measure_bandwidths
from jukebox_core.families.jukebox.training.weights import halves
from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.training.devices import start_fabric
from jukebox_core.training.loop import Subject, TrainingLoop
from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from jukebox_core.datasets.clips import Clip
    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.training.config import LossConfig, PriorTraining, VQVAETraining
    from jukebox_core.training.config import DevicesConfig
    from jukebox_core.training.log import Log
    from stages.handles import FileHandle

log = logging.getLogger("jukebox")

_BANDWIDTH_CLIPS = 64  # how many clips tell the typical sizes of the sound


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every part of a training is told."""

    config: JukeboxConfig
    devices: DevicesConfig
    folder: str  # of the model that is being made
    checkpoints: str | None = None  # folder of what training goes on from, any address; None: beside the log
    validation: float  # share of the songs that is held out
    start: FileHandle | None  # weights that training begins from; None: random ones
    started: JukeboxConfig  # the model that these weights are of: its tables of names may be shorter


@dataclass(frozen=True, slots=True)
class Trained:
    """A part that was trained to its end, as its record beside the weights says."""

    role: str
    path: Path
    sha256: str
    steps: int
    settings: str  # digest of all that it was trained with
    checked: dict[str, float]


def train_vqvae(plan: Plan, training: VQVAETraining, audio: str, metadata: str | None) -> Trained:
    """Trains the VQ-VAE on a folder of audio, or goes on where that ended; at once if it is done already.

    Raises:
        ConfigError: no music, or none as long as a clip.
        TrainingError: it cannot go on.
        StoppedError: it was asked to stop; its state is stored.
    """
    config, songs = plan.config.vqvae, scan_songs(audio, metadata)
    told = digest({"training": to_plain(training), "vqvae": to_plain(config), "songs": [song.name for song in songs]})
    done = _done(plan, "vqvae", told)
    if done is not None:
        return done

    def clips(part: Any, augment: bool) -> AudioClips | None:
        chosen = select_split(songs, part, plan.validation)
        if not chosen and part == "validation":
            return None
        return AudioClips(
            chosen,
            seconds=training.seconds,
            sample_rate=config.sample_rate,
            channels=1,
            seed=training.loop.seed,
            augment=augment,
        )

    data, held_out = clips("train", training.augment), clips("validation", False)
    assert data is not None
    loss = _with_bandwidths(training, data)
    vqvae = load_vqvae(plan.config, plan.start.read()) if plan.start else new_vqvae(plan.config, training.loop.seed)
    vqvae.train().requires_grad_(requires_grad=True)
    expected = None
    if plan.start:
        tokens = [int(training.seconds * config.sample_rate) // hop for hop in config.hops]
        expected = [count * plan.devices.devices * plan.devices.nodes / config.bins for count in tokens]
    step = VQVAEStep(vqvae, loss, training.codebook, expected=expected)
    example = held_out or data

    def show(to: Log, number: int) -> None:
        show_reconstruction(to, number, step, collate_clips([example[0]]), record_path(plan.folder, "vqvae").parent)

    subject = Subject(
        name="vqvae",
        step=step,
        units=(ResidualStack,),
        collate=collate_clips,
        data=data,
        held_out=held_out,
        show=show,
    )
    return _trained(plan, "vqvae", training, subject, vqvae, told)


def train_prior(
    plan: Plan,
    level: int,
    training: PriorTraining,
    codes: str,
    vocabularies: Mapping[str, FileHandle],
    vqvae: FileHandle,
) -> Trained:
    """Trains the prior of one level on a folder of codes, or goes on where that ended; at once if it is done already.

    The VQ-VAE's weights let be heard what the prior makes.

    Raises:
        ConfigError: no codes, or none as long as a window.
        LabelError: a label that is not in the vocabulary.
        TrainingError: it cannot go on.
        StoppedError: it was asked to stop; its state is stored.
    """
    prior_config, role = plan.config.priors[level], f"level_{level}"
    names = load_vocabularies({name: handle.read() for name, handle in vocabularies.items()})

    def windows(part: Any, augment: bool, unknown: float) -> LabelledWindows:
        found = CodeWindows(
            codes,
            level=level,
            context=prior_config.context,
            split=part,
            validation=plan.validation,
            seed=training.loop.seed,
            augment=augment,
        )
        hop = plan.config.vqvae.hops[level]
        return LabelledWindows(found, prior_config, hop, names, unknown=unknown, seed=training.loop.seed)

    data = windows("train", training.augment, training.unknown)
    held_out = _or_none(lambda: windows("validation", False, 0.0)) if plan.validation else None
    told = digest(
        {
            "training": to_plain(training),
            "prior": to_plain(prior_config),
            "codes": digest_file(Path(codes) / "songs.json"),
            "vocabularies": {name: handle.sha256 for name, handle in vocabularies.items()},
            "start": plan.start.sha256 if plan.start else None,
        }
    )
    done = _done(plan, role, told)
    if done is not None:
        return done
    prior = _begun(plan, level, training.loop.seed)
    subject = Subject(
        name=role,
        step=PriorStep(prior, training.lyric_guide, training.lyric_spread),
        units=(Block,),
        collate=collate,
        data=data,
        held_out=held_out,
        show=_continuation(plan, prior, vqvae, held_out or data),
    )
    return _trained(plan, role, training, subject, prior, told)


def _begun(plan: Plan, level: int, seed: int) -> Prior:
    """Returns the prior that training begins with."""
    if plan.start is None:
        prior = new_prior(plan.config, level, seed)
    else:
        prior = load_prior(plan.started, level, plan.start.read())
        labels = plan.config.priors[level].labels
        if labels is not None:
            widen(prior, labels)
    return prior.train().requires_grad_(requires_grad=True)


def _continuation(plan: Plan, prior: Prior, vqvae: FileHandle, windows: LabelledWindows) -> Callable[[Log, int], None]:
    """Returns what lets the first window be heard as the prior goes on with it."""
    decoder = cache(lambda: load_vqvae(plan.config, vqvae.read()))
    folder = record_path(plan.folder, f"level_{prior.config.level}").parent

    def show(to: Log, number: int) -> None:
        show_continuation(to, number, prior, decoder(), collate([windows[0]]), folder)

    return show


def _or_none(windows: Callable[[], LabelledWindows]) -> LabelledWindows | None:
    """Returns the windows of held-out songs; None where no such song is as long as one."""
    try:
        return windows()
    except ConfigError:
        return None


def collate_clips(clips: Sequence[Clip]) -> Tensor:
    """Returns the sound of clips, their first channel, [B, T]."""
    return torch.stack([clip.audio_TC[:, 0] for clip in clips])


def record_path(folder: str | Path, role: str) -> Path:
    """Returns where the record of a trained part lies."""
    return Path(folder) / "training" / role / "trained.json"


def _trained(
    plan: Plan,
    role: str,
    training: VQVAETraining | PriorTraining,
    subject: Subject,
    module: torch.nn.Module,
    told: str,
) -> Trained:
    """Trains, and writes weights and record once the last step is taken."""
    fabric = start_fabric(plan.devices, training.loop.precision, subject.units)
    checkpoints = f"{plan.checkpoints.rstrip('/')}/{role}" if plan.checkpoints is not None else None
    loop = TrainingLoop(fabric, subject, training, record_path(plan.folder, role).parent, log.info, checkpoints)
    outcome = loop.run(stopping.stop_requested)
    if not outcome.finished:
        stopping.check()
    path, weights = Path(plan.folder) / f"{role}.safetensors", halves(module)
    if fabric.is_global_zero:
        about = {"role": role, "model": plan.config.name, "steps": outcome.step, "trained": True}
        save_safetensors(weights, path, about)
        record = {"steps": outcome.step, "settings": told, "checked": outcome.checked, "sha256": digest_file(path)}
        with atomic_write(record_path(plan.folder, role)) as file:
            file.write(json.dumps(record, indent=1).encode())
    fabric.barrier()
    done = _done(plan, role, told)
    assert done is not None
    return done


def _done(plan: Plan, role: str, told: str) -> Trained | None:
    """Returns the part if its weights are there and were trained with the same settings."""
    record, path = record_path(plan.folder, role), Path(plan.folder) / f"{role}.safetensors"
    if not record.is_file() or not path.is_file():
        return None
    found = json.loads(record.read_text())
    if found["settings"] != told or found["sha256"] != digest_file(path):
        return None
    return Trained(role, path, found["sha256"], found["steps"], told, found["checked"])


def _with_bandwidths(training: VQVAETraining, data: AudioClips) -> LossConfig:
    if not training.measure_bandwidths:
        return training.loss
    count = min(_BANDWIDTH_CLIPS, len(data))
    clips = (collate_clips([data[place * len(data) // count]]) for place in range(count))
    found = measure_bandwidths(clips, training.loss.resolution)
    log.info("vqvae: bandwidths l1 %.4g, l2 %.4g, spec %.4g", found.l1, found.l2, found.spec)
    return replace(training.loss, bandwidths=found)
