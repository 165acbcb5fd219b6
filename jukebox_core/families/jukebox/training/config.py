"""What a VQ-VAE and a prior are trained for, as frozen records that check themselves. Imports no torch.

`conf/training/*.yaml` mirrors these records one to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jukebox_core.errors import ConfigError
from jukebox_core.training.config import DevicesConfig, Training


@dataclass(frozen=True, kw_only=True, slots=True)
class Bandwidths:
    """Typical sizes in the training data: mean absolute value, mean square, and norm of a spectrogram."""

    l1: float = 1.0
    l2: float = 1.0
    spec: float = 1.0

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("l1", "l2", "spec"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"bandwidth {name} is {getattr(self, name)}; it must be positive (1 changes nothing)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """One short-time Fourier transform; sizes in samples."""

    n_fft: int
    hop: int
    window: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Which distances count, and how much. The defaults are the released VQ-VAE's."""

    bandwidths: Bandwidths = Bandwidths()
    l1: float = 0.0
    l2: float = 1.0
    linf: float = 0.02
    linf_k: int = 2048  # how many of an item's largest squared residuals linf averages
    spectral: float = 0.0
    multispectral: float = 1.0
    commit: float = 0.02
    resolution: Resolution = Resolution(n_fft=2048, hop=256, window=1536)
    resolutions: tuple[Resolution, ...] = (
        Resolution(n_fft=2048, hop=240, window=1200),
        Resolution(n_fft=1024, hop=120, window=600),
        Resolution(n_fft=512, hop=50, window=240),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CodebookConfig:
    """How codebooks follow the features that were assigned to them."""

    keep: float = 0.99  # share of sums and counts that a step keeps
    revive_below: float = 1.0  # a code that fewer features than this chose, on average, is replaced by one of them

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not 0 < self.keep < 1 or self.revive_below < 0:
            raise ConfigError(f"keep is {self.keep}, revive_below {self.revive_below}; choose 0 to 1, and at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class VQVAETraining(Training):
    """How the VQ-VAE is trained."""

    seconds: float  # of sound in each item
    loss: LossConfig = LossConfig()
    codebook: CodebookConfig = CodebookConfig()
    measure_bandwidths: bool = True  # from the data, in place of loss.bandwidths
    augment: bool = True  # random blends of the two channels

    def __post_init__(self) -> None:
        """Checks ranges."""
        if self.seconds <= 0:
            raise ConfigError(f"seconds is {self.seconds}; it must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorTraining(Training):
    """How the prior of one level is trained; what it is told follows from the model."""

    unknown: float = 0.0  # share of items told neither artist nor genre, so that the model can do without
    augment: bool = True  # windows are shifted in time
    lyric_guide: float = 0.0  # weight of the loss that has the alignment head follow the lyrics; 0: left to itself
    lyric_spread: float = 2.0  # characters by which words may well be ahead or behind of an even pace

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not 0 <= self.unknown <= 1:
            raise ConfigError(f"unknown is {self.unknown}; it is a share, 0 to 1")
        if self.lyric_guide < 0:
            raise ConfigError(f"lyric_guide is {self.lyric_guide}; it cannot be negative (0 leaves the head to itself)")
        if self.lyric_spread <= 0:
            raise ConfigError(f"lyric_spread is {self.lyric_spread}; it is a number of characters above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How each part of a model is trained."""

    vqvae: VQVAETraining
    level_0: PriorTraining
    level_1: PriorTraining
    level_2: PriorTraining
    devices: DevicesConfig = field(default_factory=DevicesConfig)

    def prior(self, level: int) -> PriorTraining:
        """How the prior of `level` is trained."""
        return (self.level_0, self.level_1, self.level_2)[level]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewNames:
    """Names to add: each maps to a name that the model knows, whose row it shares, or to null for a row of its own."""

    artists: dict[str, str | None] = field(default_factory=dict)
    genres: dict[str, str | None] = field(default_factory=dict)
