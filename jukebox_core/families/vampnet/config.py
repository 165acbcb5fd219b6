"""Hyperparameters of VampNet's codec and transformers (docs/vamp.md). Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from jukebox_core.base.checks import require, require_positive
from jukebox_core.errors import ConfigError

CODEC, COARSE, C2F = "codec", "coarse", "c2f"  # roles: the codec, the coarse and the coarse-to-fine transformer
FINE_LEVEL, COARSE_LEVEL = 0, 1
ROLE_OF = {FINE_LEVEL: C2F, COARSE_LEVEL: COARSE}  # which transformer samples a level
SHORTEST_SECONDS = 0.01  # of a recording
LORA_RANK = 8  # of the low-rank updates in upstream's files; files with others load as well


class Codebooks(Protocol):
    """What sampling needs to know of a codec."""

    @property
    def sample_rate(self) -> int:
        """Audio samples a second, Hz."""
        ...

    @property
    def hop(self) -> int:
        """Audio samples per token."""
        ...

    @property
    def n_codebooks(self) -> int:
        """Codebooks."""
        ...

    @property
    def codebook_size(self) -> int:
        """Codes of each codebook."""
        ...

    @property
    def codebook_dim(self) -> int | tuple[int, ...]:
        """Width of the vectors of each codebook, or one for all."""
        ...


class _Grid:
    """Times and widths of a grid of codes."""

    __slots__ = ()

    @property
    def book_dims(self: Codebooks) -> tuple[int, ...]:
        """The width of each codebook's vectors."""
        dims = self.codebook_dim if isinstance(self.codebook_dim, tuple) else (self.codebook_dim,)
        return dims * self.n_codebooks if len(dims) == 1 else dims

    def tokens_of(self: Codebooks, seconds: float) -> int:
        """Returns the first token at or after `seconds`, rounded up as upstream does."""
        return math.ceil(seconds * self.sample_rate / self.hop)

    def seconds_of(self: Codebooks, tokens: int) -> float:
        """Returns the duration of `tokens` tokens."""
        return tokens * self.hop / self.sample_rate

    def check_books(self: Codebooks) -> None:
        """Checks the widths of codebooks.

        Raises:
            ConfigError: one is not positive, or there are more or fewer than codebooks.
        """
        dims = self.codebook_dim if isinstance(self.codebook_dim, tuple) else (self.codebook_dim,)
        require(min(dims, default=0) > 0, f"codebook_dim is {self.codebook_dim}; it must be positive")
        require(
            len(dims) in (1, self.n_codebooks),
            f"codebook_dim has {len(dims)} entries for {self.n_codebooks} codebooks; give one for each, or one for all",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CodebooksConfig(_Grid):
    """The codes of a model's codec; the sizes of its networks are read from its file."""

    sample_rate: int = 44_100  # Hz
    hop: int = 768  # audio samples per token
    n_codebooks: int = 14
    codebook_size: int = 1024
    codebook_dim: tuple[int, ...] = (8,)  # of each codebook, or one for all

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "sample_rate", "hop", "n_codebooks", "codebook_size")
        self.check_books()


@dataclass(frozen=True, kw_only=True, slots=True)
class CodecConfig(_Grid):
    """A convolutional codec with residual vector quantisation; the defaults are those of upstream's constructor."""

    sample_rate: int = 44_100  # Hz
    encoder_dim: int = 64  # channels of the first convolution; each stage doubles them
    encoder_rates: tuple[int, ...] = (2, 4, 8, 8)  # strides of the stages
    decoder_dim: int = 512  # channels of the first convolution; each stage halves them
    decoder_rates: tuple[int, ...] = (4, 4, 4, 2, 2, 2)
    n_codebooks: int = 9
    codebook_size: int = 1024
    codebook_dim: int | tuple[int, ...] = 8  # of each codebook, or one for all

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "sample_rate", "encoder_dim", "decoder_dim", "n_codebooks", "codebook_size")
        for name in ("encoder_rates", "decoder_rates"):
            rates = getattr(self, name)
            require(bool(rates) and min(rates) > 0, f"{name} is {list(rates)}; give one positive stride or more")
        self.check_books()
        last = self.decoder_dim >> len(self.decoder_rates)
        require(
            last > 0,
            f"decoder_dim is {self.decoder_dim}, which {len(self.decoder_rates)} stages halve to nothing; raise it",
        )

    @property
    def hop(self) -> int:
        """Audio samples per token: the product of the decoder's strides."""
        return math.prod(self.decoder_rates)

    @property
    def codebooks(self) -> CodebooksConfig:
        """Its codes, without the sizes of its networks."""
        dims = self.book_dims
        return CodebooksConfig(
            sample_rate=self.sample_rate,
            hop=self.hop,
            n_codebooks=self.n_codebooks,
            codebook_size=self.codebook_size,
            codebook_dim=dims[:1] if len(set(dims)) == 1 else dims,
        )

    @property
    def latent_width(self) -> int:
        """Channels of the encoder's output."""
        return int(self.encoder_dim * 2 ** len(self.encoder_rates))

    def padded(self, samples: int) -> int:
        """Returns the length in audio samples to which `samples` are padded."""
        return -(-samples // self.hop) * self.hop

    def frames(self, samples: int) -> int:
        """Returns how many tokens per codebook the encoder makes of `samples` padded audio samples."""
        for rate in self.encoder_rates:
            samples = (samples + 2 * (rate // 2) - 2 * rate) // rate + 1
        return samples

    def decoded(self, frames: int) -> int:
        """Returns how many audio samples the decoder makes of `frames` tokens per codebook."""
        for rate in self.decoder_rates:
            frames = (frames - 1) * rate - 2 * (rate // 2) + 2 * rate
        return frames


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """A bidirectional transformer over masked codes; the defaults are those of upstream's constructor."""

    n_heads: int = 20
    n_layers: int = 16
    n_codebooks: int = 9  # books that it reads
    n_conditioning_codebooks: int = 0  # of these, the first that it never predicts
    latent_dim: int = 8  # width of the codec's codebook vectors
    embedding_dim: int = 1280
    vocab_size: int = 1024  # codes; the id after the last stands for a masked token
    dropout: float = 0.1  # in training

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "n_heads", "n_layers", "n_codebooks", "latent_dim", "embedding_dim", "vocab_size")
        require(
            self.embedding_dim % self.n_heads == 0,
            f"embedding_dim is {self.embedding_dim}; it must be a multiple of n_heads, {self.n_heads}",
        )
        require(
            0 <= self.n_conditioning_codebooks < self.n_codebooks,
            f"n_conditioning_codebooks is {self.n_conditioning_codebooks}; of {self.n_codebooks} codebooks it may take "
            f"0 to {self.n_codebooks - 1}",
        )
        require(0 <= self.dropout < 1, f"dropout is {self.dropout}; it must be within [0, 1)")

    @property
    def n_predicted(self) -> int:
        """Codebooks that it predicts."""
        return self.n_codebooks - self.n_conditioning_codebooks

    @property
    def mask_id(self) -> int:
        """The id of a masked token."""
        return self.vocab_size

    def parameters(self, rank: int = 0) -> int:
        """Returns the number of parameters, with low-rank updates of `rank`."""
        width, books, outputs = self.embedding_dim, self.n_codebooks, self.vocab_size * self.n_predicted
        embedding = books * self.latent_dim + books * self.latent_dim * width + width
        layer = 2 * width + 4 * width**2 + 6 * width**2 + rank * (3 * 2 * width + 5 * width + 3 * width)
        return embedding + self.n_layers * layer + 32 * self.n_heads + width + outputs * (width + 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class VampNetNetwork:
    """Section ``network`` of a preset."""

    codec: CodebooksConfig
    coarse: TransformerConfig
    c2f: TransformerConfig | None = None  # without it, the fine codebooks are kept as they are
    coarse_seconds: float = 10.0  # length of a chunk
    c2f_seconds: float = 3.0

    def __post_init__(self) -> None:
        """Checks that codec and transformers belong together."""
        require_positive(self, "coarse_seconds", "c2f_seconds")
        for name in (COARSE, C2F):
            sizes: TransformerConfig | None = getattr(self, name)
            if sizes is not None:
                check_codec(sizes, self.codec, name)
        fine = self.c2f
        require(
            fine is None or fine.n_conditioning_codebooks == self.coarse.n_codebooks,
            f"c2f.n_conditioning_codebooks is {fine and fine.n_conditioning_codebooks}; the coarse model makes "
            f"{self.coarse.n_codebooks} codebooks, and c2f must read all of them",
        )

    def chunk(self, role: str) -> int:
        """Returns the length of a chunk of the transformer `role`, in tokens."""
        return self.codec.tokens_of(self.coarse_seconds if role == COARSE else self.c2f_seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class VampNetConfig:
    """A complete model. Level 1 are the coarse codebooks, level 0 all of them."""

    name: str
    network: VampNetNetwork
    top: int = COARSE_LEVEL

    @property
    def sample_rate(self) -> int:
        """Audio samples a second, Hz."""
        return self.network.codec.sample_rate

    @property
    def hops(self) -> tuple[int, ...]:
        """Audio samples per token: the same on both levels."""
        return (self.network.codec.hop,) * 2

    @property
    def bins(self) -> int:
        """Codes are whole numbers in [0, bins)."""
        return self.network.codec.codebook_size

    def seconds(self, level: int, tokens: int) -> float:
        """Returns the duration of `tokens` tokens of `level`."""
        return tokens * self.hops[level] / self.sample_rate

    def sizes(self, role: str) -> TransformerConfig:
        """Returns the sizes of the transformer `role`.

        Raises:
            ConfigError: the model has no such transformer.
        """
        found = self.network.coarse if role == COARSE else self.network.c2f
        require(found is not None, f"model {self.name} has no transformer {role}")
        assert found is not None
        return found


def check_codec(sizes: TransformerConfig, codec: CodebooksConfig | CodecConfig, name: str = "the transformer") -> None:
    """Checks that a transformer reads the codes of a codec.

    Raises:
        ConfigError: number, size or width of the codebooks differ.
    """
    require(
        sizes.n_codebooks <= codec.n_codebooks,
        f"{name} reads {sizes.n_codebooks} codebooks, but the codec has {codec.n_codebooks}; choose its own codec",
    )
    dims = set(codec.book_dims[: sizes.n_codebooks])
    require(
        dims == {sizes.latent_dim} and sizes.vocab_size == codec.codebook_size,
        f"{name} reads codebooks of {sizes.vocab_size} x {sizes.latent_dim}, but the codec has {codec.codebook_size} x "
        f"{', '.join(map(str, sorted(dims)))}; choose its own codec",
    )


def varies_only() -> ConfigError:
    """Returns the error for anything but variations that is asked of these models."""
    return ConfigError(
        "models of the family vampnet vary recordings, and make no music from nothing; vary one "
        "with `jukebox vamp audio=[song.wav]`, or choose a model of another family, as model=mini"
    )
