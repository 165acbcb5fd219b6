"""Training of VampNet models: their side of `jukebox_core.training.family`. Imports no torch before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.families.vampnet.config import C2F, COARSE, CODEC
from jukebox_core.families.vampnet.training.config import NoLabels, TrainingConfig
from jukebox_core.training.family import RequiredLength
from jukebox_core.training.unlabelled import Unlabelled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.datasets.songs import Song
    from jukebox_core.families.vampnet.config import VampNetConfig
    from jukebox_core.training.family import FinishedModel, FinishInputs, PartInputs, SongLength
    from jukebox_core.training.loop import Subject
    from jukebox_core.training.memory import TrainingMemory


class VampNetTraining(Unlabelled):
    """The codec learns from recordings; the transformers learn from its codes."""

    training_type = TrainingConfig
    new_labels_type = NoLabels
    codec_role = CODEC
    composes = False

    def parts(self, config: VampNetConfig) -> tuple[str, ...]:
        """Returns ``codec``, ``coarse`` and, where the model has it, ``c2f``."""
        return (CODEC, COARSE, *((C2F,) if config.network.c2f is not None else ()))

    def learns_from_codes(self, role: str) -> bool:
        """Returns whether the part is a transformer."""
        return role != CODEC

    # Checks before a training

    def required_length(self, config: VampNetConfig, role: str, training: TrainingConfig) -> RequiredLength:
        """Returns a clip of the codec, or an excerpt of a transformer."""
        seconds = training.part(role).seconds
        if role == CODEC:
            return RequiredLength(seconds, f"a clip of {seconds:g} s", "give longer music or make the clips shorter")
        codec = config.network.codec
        whole = codec.seconds_of(codec.tokens_of(seconds))
        return RequiredLength(whole, f"an excerpt of {whole:.2f} s", "give longer music or make the excerpts shorter")

    def check(
        self,
        config: VampNetConfig,
        parts: Sequence[str],
        training: TrainingConfig,
        vocabularies: Mapping[str, Path],
        lengths: Sequence[SongLength],
    ) -> None:
        """Checks that a new codec makes the model's tokens, and that clips are as long as the losses' windows."""
        from jukebox_core.families.vampnet.training.readiness import check_codec_training

        if CODEC in parts:
            check_codec_training(config, training.codec)

    def song_problem(self, config: VampNetConfig, song: Song, seconds: float) -> None:
        """Returns None: nothing but the audio is needed."""

    def estimate_memory(self, config: VampNetConfig, role: str, training: TrainingConfig) -> TrainingMemory:
        """Returns the estimated memory of training the codec or a transformer, in bytes."""
        from jukebox_core.families.vampnet.training.memory import codec_memory, transformer_memory

        if role == CODEC:
            return codec_memory(config, training.codec)
        return transformer_memory(config, role, training.transformer(role))

    # Training

    def causes(self, role: str, inputs: PartInputs) -> Mapping[str, Any]:
        """Returns hyperparameters, sizes, and the songs or codes."""
        from jukebox_core.families.vampnet.training import subjects

        return subjects.codec_causes(inputs) if role == CODEC else subjects.transformer_causes(inputs, role)

    def subject(self, role: str, inputs: PartInputs) -> Subject:
        """Returns the codec or a transformer with its data."""
        from jukebox_core.families.vampnet.training import subjects

        return subjects.codec_subject(inputs) if role == CODEC else subjects.transformer_subject(inputs, role)

    def finish(self, inputs: FinishInputs) -> FinishedModel:
        """Returns the network as it is, and the card."""
        from jukebox_core.families.vampnet.training.model_card import model_card
        from jukebox_core.training.family import FinishedModel

        return FinishedModel(network=inputs.base.network, rewritten={}, card=model_card(inputs))


TRAINING = VampNetTraining()
