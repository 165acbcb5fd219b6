"""Hyperparameters of training a VampNet model, as frozen records. Imports no torch.

`conf/training/*.yaml` mirrors these records one to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jukebox_core.base.checks import require, require_positive
from jukebox_core.families.vampnet.config import C2F, COARSE, CODEC, LORA_RANK, CodebooksConfig, CodecConfig
from jukebox_core.training import unlabelled
from jukebox_core.training.config import DevicesConfig, Training


@dataclass(frozen=True, kw_only=True, slots=True)
class CodecNetworks:
    """Sizes of a new codec's networks; those of a trained one are in its file."""

    encoder_dim: int
    encoder_rates: tuple[int, ...]
    decoder_dim: int
    decoder_rates: tuple[int, ...]

    def config(self, codes: CodebooksConfig) -> CodecConfig:
        """Returns the sizes of the codec that makes these codes.

        Raises:
            ConfigError: the sizes are impossible, or their strides make other tokens.
        """
        dims = codes.book_dims
        made = CodecConfig(
            sample_rate=codes.sample_rate,
            encoder_dim=self.encoder_dim,
            encoder_rates=self.encoder_rates,
            decoder_dim=self.decoder_dim,
            decoder_rates=self.decoder_rates,
            n_codebooks=codes.n_codebooks,
            codebook_size=codes.codebook_size,
            codebook_dim=dims[0] if len(set(dims)) == 1 else dims,
        )
        for name in ("encoder_rates", "decoder_rates"):
            rates, hop = getattr(self, name), 1
            for rate in rates:
                hop *= rate
            require(
                hop == codes.hop,
                f"training.codec.networks.{name} is {list(rates)}, whose product is {hop}; the model's codec has "
                f"{codes.hop} samples a token, so choose strides with that product",
            )
        return made


@dataclass(frozen=True, kw_only=True, slots=True)
class SpectralConfig:
    """Short-time Fourier transforms of a loss: windows, each moved by a quarter of itself."""

    windows: tuple[int, ...] = (2048, 512)  # samples
    mels: tuple[int, ...] = (80, 20)  # bands of the mel loss at each window

    def __post_init__(self) -> None:
        """Checks that each window has its bands."""
        require(
            bool(self.windows) and len(self.windows) == len(self.mels),
            f"windows {list(self.windows)} and mels {list(self.mels)} must be as many, at least one",
        )
        require(min(self.windows) >= 16, f"windows are {list(self.windows)}; each must have at least 16 samples")
        require(min(self.mels) > 0, f"mels are {list(self.mels)}; they must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class CodecLoss:
    """Weights of the codec's losses; 0 leaves one out."""

    waveform: float = 0.1  # of minus the signal-to-distortion ratio, in dB
    spectral: float = 1.0  # of the distance of log magnitudes, mean over the windows
    mel: float = 1.0  # of the distance of log mel bands, mean over the windows
    codebook: float = 1.0  # distance of codebooks' vectors from the latents
    commitment: float = 0.25  # distance of the latents from codebooks' vectors
    adversarial: float = 0.0  # of the loss against discriminators of spectrograms
    feature: float = 2.0  # of the distance of the discriminators' activations, relative to `adversarial`
    resolutions: SpectralConfig = SpectralConfig()

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("waveform", "spectral", "mel", "codebook", "commitment", "adversarial", "feature"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; a weight cannot be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadCodes:
    """Which codebook entries are replaced by random latents: those that are rarely chosen."""

    decay: float = 0.99  # of the moving average of how often an entry is chosen
    threshold: float = 0.05  # share of its fair part of the tokens, below which an entry is replaced; 0: never

    def __post_init__(self) -> None:
        """Checks ranges."""
        require(0 < self.decay < 1, f"decay is {self.decay}; it must be above 0 and below 1")
        require(0 <= self.threshold < 1, f"threshold is {self.threshold}; it must be at least 0 and below 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class CodecTraining(Training):
    """Hyperparameters of training the codec."""

    seconds: float  # length of a clip
    networks: CodecNetworks
    initial: Literal["lapped_transform", "random"] = "random"  # weights before the first step
    fitted_seconds: float = 300.0  # audio that new codebooks are fitted to
    gain_db: float = 0.0  # the level of a clip differs from -24 LUFS by up to this much
    quantizer_dropout: float = 0.0  # share of the batches that use a random number of codebooks
    loss: CodecLoss = CodecLoss()
    dead_codes: DeadCodes = DeadCodes()

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "seconds", "fitted_seconds")
        require(
            self.initial in ("lapped_transform", "random"),
            f"initial is {self.initial!r}; choose 'lapped_transform' or 'random'",
        )
        require(0 <= self.gain_db <= 60, f"gain_db is {self.gain_db}; it is a range of decibels, from 0 to 60")
        require(
            0 <= self.quantizer_dropout <= 1,
            f"quantizer_dropout is {self.quantizer_dropout}; it is a share, from 0 to 1",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerTraining(Training):
    """Hyperparameters of training one transformer."""

    seconds: float  # length of an excerpt; the released models: 10 (coarse), 3 (c2f)
    label_smoothing: float = 0.1
    lora_rank: int = 0  # train low-rank updates of this rank alone; 0: all weights

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "seconds")
        require(
            0 <= self.label_smoothing < 1,
            f"label_smoothing is {self.label_smoothing}; it must be at least 0 and below 1",
        )
        require(
            self.lora_rank >= 0,
            f"lora_rank is {self.lora_rank}; it cannot be negative (released fine-tunes: {LORA_RANK}, all weights: 0)",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Hyperparameters of training each part of a model, and the devices (section ``training``)."""

    codec: CodecTraining
    coarse: TransformerTraining
    c2f: TransformerTraining
    devices: DevicesConfig = field(default_factory=DevicesConfig)

    def transformer(self, role: str) -> TransformerTraining:
        """Returns the hyperparameters of a transformer; KeyError for any other role."""
        return {COARSE: self.coarse, C2F: self.c2f}[role]

    def part(self, role: str) -> CodecTraining | TransformerTraining:
        """Returns the hyperparameters of one part; KeyError for an unknown role."""
        return self.codec if role == CODEC else self.transformer(role)


class NoLabels(unlabelled.NoLabels):
    """The section ``labels``, which is empty: VampNet models are not conditioned on labels."""

    family = "vampnet"
