"""The network in training: module and data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest_file
from jukebox_core.base.structuring import to_plain
from jukebox_core.datasets.recordings import usable_recordings
from jukebox_core.datasets.songs import scan_songs, select_split
from jukebox_core.errors import ConfigError
from jukebox_core.families.mt3.checkpoints.loading import load_model
from jukebox_core.families.mt3.config import TRANSCRIBER
from jukebox_core.families.mt3.training.excerpts import Collate, Excerpts
from jukebox_core.families.mt3.training.initialise import new_model
from jukebox_core.families.mt3.training.memory import UNITS
from jukebox_core.families.mt3.training.songs import ComposedSongs, RecordedSongs, midi_beside
from jukebox_core.families.mt3.training.step import TranscriberStep
from jukebox_core.training.config import training_causes
from jukebox_core.training.loop import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.families.mt3.config import MT3Config
    from jukebox_core.families.mt3.training.config import TranscriberTraining
    from jukebox_core.families.mt3.training.songs import Songs
    from jukebox_core.training.family import PartInputs


def causes(inputs: PartInputs) -> Mapping[str, Any]:
    """Returns hyperparameters, sizes, and the songs with the digests of their MIDI files, or the album."""
    config: MT3Config = inputs.config
    training = training_causes(inputs.training.transcriber)
    if not training["guide_weight"]:
        del training["guide_weight"], training["guide_sigma"]
    found: dict[str, Any] = {"training": training, "network": to_plain(config.network)}
    if inputs.album is not None:
        return {**found, "album": to_plain(inputs.album)}
    return {**found, "songs": {name: digest_file(midi_beside(path)) for name, path in _recordings(inputs).items()}}


def subject(inputs: PartInputs) -> Subject:
    """Returns the network with excerpts of songs.

    Raises:
        ConfigError: no recording is left to learn from.
        CheckpointError: the weights to start from do not fit.
    """
    config: MT3Config = inputs.config
    training: TranscriberTraining = inputs.training.transcriber
    network, seed = config.network, training.loop.seed
    train, held_out = _songs(inputs)
    start = inputs.start
    model = new_model(network, seed) if start is None else load_model(network, start)
    model.train().requires_grad_(requires_grad=True)
    eval_data = None
    if held_out is not None:
        eval_data = Excerpts(held_out, network, segments=training.segments, seed=seed, augment=None)
    return Subject(
        name=TRANSCRIBER,
        step=TranscriberStep(
            model,
            training.frame_loss_weight,
            training.length_groups,
            guide_weight=training.guide_weight,
            guide_sigma=training.guide_sigma,
        ),
        units=UNITS,
        collate=Collate(network),
        data=Excerpts(train, network, segments=training.segments, seed=seed, augment=training.augment),
        eval_data=eval_data,
        network=model,
        exact=tuple(name for name, _ in model.named_buffers()),  # frequencies of positions
    )


def _songs(inputs: PartInputs) -> tuple[Songs, Songs | None]:
    """Returns the songs to learn from and the held-out ones, if any."""
    if inputs.album is not None:
        return ComposedSongs(inputs.album), ComposedSongs(inputs.album, held_out=True) if inputs.validation else None
    assert inputs.audio is not None, "the settings require recordings or an album"
    assert inputs.recordings is not None, "recordings are checked before a training"
    lengths = usable_recordings(inputs.recordings)
    usable = [song for song in scan_songs(inputs.audio, inputs.metadata) if song.name in lengths]
    train, held_out = (select_split(usable, part, inputs.validation) for part in ("train", "validation"))
    if not train:
        raise ConfigError(f"none of {len(usable)} recordings is left to learn from; make data.validation smaller")
    most = inputs.most_unreadable
    return RecordedSongs(train, lengths, most), RecordedSongs(held_out, lengths, most) if held_out else None


def _recordings(inputs: PartInputs) -> dict[str, Any]:
    """Returns the paths of the recordings that can be used, by name."""
    assert inputs.audio is not None, "the settings require recordings or an album"
    assert inputs.recordings is not None, "recordings are checked before a training"
    lengths = usable_recordings(inputs.recordings)
    return {song.name: song.path for song in scan_songs(inputs.audio, inputs.metadata) if song.name in lengths}
