"""Training of Jukebox: its side of `jukebox_core.training.family`. Imports no torch before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.families.jukebox.config import CODEC, level_of
from jukebox_core.families.jukebox.training.config import NewNames, TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.datasets.songs import Song
    from jukebox_core.families.jukebox.config import JukeboxConfig, JukeboxNetwork
    from jukebox_core.training.family import FinishedModel, FinishInputs, PartInputs, RequiredLength, SongLength
    from jukebox_core.training.loop import Subject
    from jukebox_core.training.memory import TrainingMemory


class JukeboxTraining:
    """The VQ-VAE learns from recordings; the prior of each level learns from the VQ-VAE's codes."""

    training_type = TrainingConfig
    new_labels_type = NewNames
    codec_role = CODEC
    composes = False

    def parts(self, config: JukeboxConfig) -> tuple[str, ...]:
        """Returns ``vqvae`` and the priors, top level first."""
        return (CODEC, *(f"level_{level}" for level in reversed(range(config.top + 1))))

    def learns_from_codes(self, role: str) -> bool:
        """Returns whether the part is a prior."""
        return role != CODEC

    # Checks before a training

    def required_length(self, config: JukeboxConfig, role: str, training: TrainingConfig) -> RequiredLength:
        """Returns a clip of the VQ-VAE, or a context of a prior."""
        from jukebox_core.families.jukebox.training.readiness import required_length

        return required_length(config, role, training)

    def check(
        self,
        config: JukeboxConfig,
        parts: Sequence[str],
        training: TrainingConfig,
        vocabularies: Mapping[str, Path],
        lengths: Sequence[SongLength],
    ) -> None:
        """Checks label tables against vocabularies, guided attention heads, and song lengths against the timing."""
        from jukebox_core.families.jukebox.training import readiness

        readiness.check_tables(config, parts, vocabularies)
        readiness.check_guided_heads(config, parts, training)
        readiness.check_timing(config, parts, training, lengths)

    def check_labels(self, config: JukeboxConfig, vocabularies: Mapping[str, Path], songs: Sequence[Song]) -> None:
        """Checks the artist, the genre and the lyrics of every song."""
        from jukebox_core.families.jukebox.training.readiness import check_labels

        check_labels(config, vocabularies, songs)

    def song_problem(self, config: JukeboxConfig, song: Song, seconds: float) -> None:
        """Returns None: labels are checked by `check_labels`."""

    def estimate_memory(self, config: JukeboxConfig, role: str, training: TrainingConfig) -> TrainingMemory:
        """Returns the estimated memory of training the VQ-VAE or a prior, in bytes."""
        from jukebox_core.families.jukebox.training.memory import prior_memory, vqvae_memory

        if role == CODEC:
            return vqvae_memory(config, training.vqvae)
        return prior_memory(config, level_of(role), training.prior(role))

    # Training

    def add_labels(
        self,
        config: JukeboxConfig,
        network: JukeboxNetwork,
        labels: NewNames,
        vocabularies: Mapping[str, Path],
        folder: Path,
    ) -> tuple[JukeboxNetwork, Mapping[str, Path]]:
        """Returns the network with longer tables of artists and genres, and the vocabularies with the new names."""
        from jukebox_core.families.jukebox.training.label_tables import add_names

        return add_names(config, network, labels, vocabularies, folder)

    def causes(self, role: str, inputs: PartInputs) -> Mapping[str, Any]:
        """Returns hyperparameters, sizes, and the songs or codes."""
        from jukebox_core.families.jukebox.training import subjects

        return subjects.vqvae_causes(inputs) if role == CODEC else subjects.prior_causes(inputs, role)

    def subject(self, role: str, inputs: PartInputs) -> Subject:
        """Returns the VQ-VAE or a prior with its data."""
        from jukebox_core.families.jukebox.training import subjects

        return subjects.vqvae_subject(inputs) if role == CODEC else subjects.prior_subject(inputs, role)

    def finish(self, inputs: FinishInputs) -> FinishedModel:
        """Returns the network with the head that follows the lyrics, the card, and priors with longer tables."""
        from jukebox_core.families.jukebox.training.finishing import finish

        return finish(inputs)


TRAINING = JukeboxTraining()
