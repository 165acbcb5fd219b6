"""Training of MT3 models: their side of `jukebox_core.training.family`. Imports no torch before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.errors import ConfigError
from jukebox_core.families.mt3.config import TRANSCRIBER
from jukebox_core.families.mt3.training.config import NoLabels, TrainingConfig
from jukebox_core.training.family import RequiredLength
from jukebox_core.training.unlabelled import Unlabelled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.datasets.songs import Song
    from jukebox_core.families.mt3.config import MT3Config
    from jukebox_core.training.family import FinishedModel, FinishInputs, PartInputs, SongLength
    from jukebox_core.training.loop import Subject
    from jukebox_core.training.memory import TrainingMemory


class MT3Training(Unlabelled):
    """The one network learns from recordings with their notes, or from composed songs."""

    training_type = TrainingConfig
    new_labels_type = NoLabels
    codec_role = None
    composes = True

    def parts(self, config: MT3Config) -> tuple[str, ...]:
        """Returns ``transcriber``."""
        return (TRANSCRIBER,)

    def learns_from_codes(self, role: str) -> bool:
        """Returns False."""
        return False

    # Checks before a training

    def required_length(self, config: MT3Config, role: str, training: TrainingConfig) -> RequiredLength:
        """Returns one segment."""
        front_end = config.network.front_end
        seconds = front_end.segment_samples / front_end.sample_rate
        return RequiredLength(seconds, f"a segment of {seconds:g} s", "give longer music")

    def check(
        self,
        config: MT3Config,
        parts: Sequence[str],
        training: TrainingConfig,
        vocabularies: Mapping[str, Path],
        lengths: Sequence[SongLength],
    ) -> None:
        """Checks that the model can be trained; recordings and MIDI files are checked one by one.

        Raises:
            ConfigError: its decoder writes several groups of instruments apart.
        """
        if config.network.perceiver is not None:
            raise ConfigError(
                f"model {config.name} writes {config.network.perceiver.channels} groups of instruments apart and is "
                "not trained here; choose model=mini_mt3 or model=mt3"
            )

    def song_problem(self, config: MT3Config, song: Song, seconds: float) -> str | None:
        """Returns what is wrong with the MIDI file of a recording."""
        from jukebox_core.families.mt3.training.songs import notes_problem

        return notes_problem(song.path, seconds)

    def estimate_memory(self, config: MT3Config, role: str, training: TrainingConfig) -> TrainingMemory:
        """Returns the estimated memory of training the network, in bytes."""
        from jukebox_core.families.mt3.training.memory import transcriber_memory

        return transcriber_memory(config.network, training.transcriber)

    # Training

    def causes(self, role: str, inputs: PartInputs) -> Mapping[str, Any]:
        """Returns hyperparameters, sizes, and the songs or the album."""
        from jukebox_core.families.mt3.training.subject import causes

        return causes(inputs)

    def subject(self, role: str, inputs: PartInputs) -> Subject:
        """Returns the network with its data."""
        from jukebox_core.families.mt3.training.subject import subject

        return subject(inputs)

    def finish(self, inputs: FinishInputs) -> FinishedModel:
        """Returns the network as it is, and the card."""
        from jukebox_core.families.mt3.training.model_card import model_card
        from jukebox_core.training.family import FinishedModel

        return FinishedModel(network=inputs.base.network, rewritten={}, card=model_card(inputs))


TRAINING = MT3Training()
