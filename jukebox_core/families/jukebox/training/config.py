"""Hyperparameters of training the VQ-VAE and the priors, as frozen records. Imports no torch.

`conf/training/*.yaml` mirrors these records one to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.config import CODEC
from jukebox_core.training.config import DevicesConfig, Training


@dataclass(frozen=True, kw_only=True, slots=True)
class Bandwidths:
    """Typical magnitudes in the training data, by which losses are divided (docs/upstream.md, Training)."""

    l1: float = 1.0  # mean absolute value
    l2: float = 1.0  # variance
    spec: float = 1.0  # norm of a spectrogram

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("l1", "l2", "spec"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"bandwidth {name} is {getattr(self, name)}; it must be positive (1 changes nothing)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """One short-time Fourier transform; sizes in samples."""

    n_fft: int  # length of the transform
    hop: int  # between two transforms
    window: int  # that is transformed


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Weights of the losses. The defaults are the released VQ-VAE's."""

    bandwidths: Bandwidths = Bandwidths()
    l1: float = 0.0  # weight of the absolute residual
    l2: float = 1.0  # weight of the squared residual
    linf: float = 0.02  # weight of the largest squared residuals
    linf_k: int = 2048  # how many of an item's largest squared residuals linf averages
    spectral: float = 0.0  # weight of the difference of spectra at `resolution`
    multispectral: float = 1.0  # weight of the same at all of `resolutions`
    log_spectral: float = 0.0  # weight of the difference of log magnitudes at all of `resolutions`: quiet bins count
    commit: float = 0.02  # weight of the distance of encodings from their codes
    resolution: Resolution = Resolution(n_fft=2048, hop=256, window=1536)
    resolutions: tuple[Resolution, ...] = (  # of multispectral
        Resolution(n_fft=2048, hop=240, window=1200),
        Resolution(n_fft=1024, hop=120, window=600),
        Resolution(n_fft=512, hop=50, window=240),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CodebookConfig:
    """Exponential moving average by which codebooks learn (docs/upstream.md, VQ-VAE)."""

    ema_decay: float = 0.99  # of the sums and counts of each entry
    threshold_ema_dead_code: float = 1.0  # an entry chosen less often than this, on average, is replaced

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not 0 < self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}; it must be above 0 and below 1")
        if self.threshold_ema_dead_code < 0:
            raise ConfigError(f"threshold_ema_dead_code is {self.threshold_ema_dead_code}; it cannot be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class VQVAETraining(Training):
    """Hyperparameters of training the VQ-VAE."""

    seconds: float  # length of a clip
    loss: LossConfig = LossConfig()
    codebook: CodebookConfig = CodebookConfig()
    measure_bandwidths: bool = True  # on the data, instead of loss.bandwidths
    augment: bool = True  # random mixes of the two channels

    def __post_init__(self) -> None:
        """Checks ranges."""
        if self.seconds <= 0:
            raise ConfigError(f"seconds is {self.seconds}; it must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorTraining(Training):
    """Hyperparameters of training the prior of one level."""

    label_dropout: float = 0.0  # share of items whose artist and genre are replaced by the unknown ones
    augment: bool = True  # random shifts of windows in time
    first_share: float = 0.0  # of the windows that are a song's first, in addition to those that happen to be
    guided_attention_weight: float = 0.0  # of the loss that makes the alignment head follow the lyrics; 0: none
    guided_attention_sigma: float = 2.0  # characters; tolerance around an even pace of the lyrics

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not 0 <= self.label_dropout <= 1:
            raise ConfigError(f"label_dropout is {self.label_dropout}; it is a share, 0 to 1")
        if not 0 <= self.first_share <= 1:
            raise ConfigError(f"first_share is {self.first_share}; it is a share of the windows, 0 to 1")
        if self.guided_attention_weight < 0:
            raise ConfigError(
                f"guided_attention_weight is {self.guided_attention_weight}; it cannot be negative (0: no guidance)"
            )
        if self.guided_attention_sigma <= 0:
            raise ConfigError(
                f"guided_attention_sigma is {self.guided_attention_sigma}; it is a number of characters above 0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Hyperparameters of training each part of a model, and the devices (section ``training``)."""

    vqvae: VQVAETraining
    level_0: PriorTraining
    level_1: PriorTraining
    level_2: PriorTraining
    devices: DevicesConfig = field(default_factory=DevicesConfig)

    def prior(self, role: str) -> PriorTraining:
        """Returns the hyperparameters of a prior; KeyError for any other role."""
        return {"level_0": self.level_0, "level_1": self.level_1, "level_2": self.level_2}[role]

    def part(self, role: str) -> VQVAETraining | PriorTraining:
        """Returns the hyperparameters of one part; KeyError for an unknown role."""
        return self.vqvae if role == CODEC else self.prior(role)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewNames:
    """New names (section ``labels``): each maps to a known name, whose row it shares, or to null for a new row."""

    artists: dict[str, str | None] = field(default_factory=dict)  # as in {me: null, my band: the beatles}
    genres: dict[str, str | None] = field(default_factory=dict)  # likewise

    @property
    def is_empty(self) -> bool:
        """Whether no name is added."""
        return not self.artists and not self.genres
