"""Hyperparameters of training an MT3 model, as frozen records. Imports no torch.

`conf/training/*.yaml` mirrors these records one to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jukebox_core.base.checks import require, require_positive
from jukebox_core.families.mt3.config import TRANSCRIBER
from jukebox_core.training import unlabelled
from jukebox_core.training.config import DevicesConfig, Training


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Random changes of an excerpt. Held-out music is not changed."""

    gain_db: float = 0.0  # the level changes by up to this much, either way
    noise_db: float | None = None  # white noise at this level below the music or a lower one; null: none
    noise_share: float = 0.5  # of the excerpts that have noise
    pitch_semitones: int = 0  # music is played faster or slower, which shifts its pitch by up to this, either way
    pitch_share: float = 0.5  # of the excerpts that are shifted
    mix_share: float = 0.0  # of the excerpts to which an excerpt of another song is added, with its notes

    def __post_init__(self) -> None:
        """Checks ranges."""
        require(0 <= self.gain_db <= 60, f"gain_db is {self.gain_db}; it is a range of decibels, from 0 to 60")
        require(
            self.noise_db is None or 0 <= self.noise_db <= 120,
            f"noise_db is {self.noise_db}; it is decibels below the music, from 0 to 120, or null",
        )
        require(
            0 <= self.pitch_semitones <= 12,
            f"pitch_semitones is {self.pitch_semitones}; music is shifted by at most 12 semitones",
        )
        for name in ("noise_share", "pitch_share", "mix_share"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} is {value}; it is a share, from 0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriberTraining(Training):
    """Hyperparameters of training the network."""

    segments: int  # consecutive segments of an excerpt, which is one item of a batch
    augment: AugmentConfig = AugmentConfig()
    frame_loss_weight: float = 0.0  # of the loss of layers that find the notes of each frame; they are not kept
    guide_weight: float = 0.0  # of a loss that guides two heads of each decoder layer to the frames of events
    guide_sigma: float = 1.5  # frames; tolerated distance from them
    length_groups: int = 1  # groups of similar length that a batch is decoded in, which saves padding

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "segments", "length_groups", "guide_sigma")
        for name in ("frame_loss_weight", "guide_weight"):
            value = getattr(self, name)
            require(value >= 0, f"{name} is {value}; it cannot be negative (0: no such loss)")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Hyperparameters of training the network, and the devices (section ``training``)."""

    transcriber: TranscriberTraining
    devices: DevicesConfig = field(default_factory=DevicesConfig)

    def part(self, role: str) -> TranscriberTraining:
        """Returns the hyperparameters of the one part; KeyError for an unknown role."""
        return {TRANSCRIBER: self.transcriber}[role]


class NoLabels(unlabelled.NoLabels):
    """The section ``labels``, which is empty: MT3 models are not conditioned on labels."""

    family = "mt3"
