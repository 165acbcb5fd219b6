"""Hyperparameters of a Jukebox model, as frozen records that check themselves. Imports no torch.

A model is one `JukeboxConfig`: a VQ-VAE and three priors. `conf/model/*.yaml` mirrors these records one to one.
Lengths are in tokens of the level concerned unless a name says seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING, Literal

from jukebox_core.base.checks import require, require_positive

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTENTION_ORDERS = range(13)
CODEC = "vqvae"  # the role of the VQ-VAE; `level_of` gives the level of any other


@dataclass(frozen=True, kw_only=True, slots=True)
class VQVAEConfig:
    """The three-level VQ-VAE (Jukebox paper, section 3; docs/upstream.md, VQ-VAE).

    Level ``l`` has an encoder and a decoder of its own, made of ``l + 1`` stacked blocks.
    """

    sample_rate: int  # Hz
    downs: tuple[int, ...]  # per level block: how many strided convolutions
    strides: tuple[int, ...]  # per level block: the stride of each of them
    multipliers: tuple[int, ...]  # per level: factor on width and depth of all its blocks
    width: int
    depth: int  # residual blocks per strided convolution
    embedding_width: int
    bins: int  # codebook size
    dilation_growth: int
    dilation_cycle: int | None = None
    hidden_factor: float = 1.0  # width inside a residual block, as a share of its own
    reverse_decoder_dilation: bool = True

    def __post_init__(self) -> None:
        """Checks ranges and agreement of the per-level lists."""
        require_positive(
            self, "sample_rate", "width", "depth", "embedding_width", "bins", "dilation_growth", "hidden_factor"
        )
        levels = len(self.downs)
        require(levels > 0, "downs is empty; a VQ-VAE has at least one level")
        for name in ("strides", "multipliers"):
            found = len(getattr(self, name))
            require(found == levels, f"{name} has {found} entries but downs has {levels}; give one for each level")

    @property
    def levels(self) -> int:
        """Number of levels of codes."""
        return len(self.downs)

    @property
    def hops(self) -> tuple[int, ...]:
        """Audio samples per token, bottom level first: (8, 32, 128) for the released model."""
        per_block = (stride**down for down, stride in zip(self.downs, self.strides, strict=True))
        return tuple(accumulate(per_block, mul))


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """A factored-attention transformer (paper, appendix A; docs/upstream.md, Attention)."""

    width: int
    depth: int
    heads: int
    attention_order: int  # which of the 13 layer patterns
    blocks: int | None = None  # the sequence is folded into this many rows; None only where every layer is dense
    attention_factor: float = 0.25  # width of queries, keys and values as a share of `width`
    mlp_factor: float = 1.0
    residual_scale: bool = False  # divide each block's update by the depth
    spread: int | None = None  # positions a summary layer of type 5 keeps per row

    def __post_init__(self) -> None:
        """Checks ranges and divisibility."""
        require_positive(self, "width", "depth", "heads", "attention_factor", "mlp_factor")
        require(
            self.attention_order in ATTENTION_ORDERS,
            f"attention_order is {self.attention_order}; choose one of 0 to {ATTENTION_ORDERS[-1]}",
        )
        require(
            self.attention_width % self.heads == 0,
            f"attention width {self.attention_width} is not divisible by heads {self.heads}",
        )
        require(self.blocks is None or self.blocks > 0, f"blocks is {self.blocks}; it must be positive, or null")
        require(
            self.attention_order == 0 or self.blocks is not None,
            f"attention_order {self.attention_order} folds the sequence; give blocks, how many rows it has",
        )

    @property
    def attention_width(self) -> int:
        """Width of queries, keys and values."""
        return int(self.attention_factor * self.width)

    @property
    def mlp_width(self) -> int:
        """Hidden width of the feed-forward layer."""
        return int(self.mlp_factor * self.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class UpsampleConfig:
    """The convolutional conditioner of an upsampler: codes of the level above, brought to this level's rate."""

    width: int
    depth: int
    dilation_growth: int
    dilation_cycle: int | None = None
    hidden_factor: float = 1.0
    residual_scale: bool = False  # multiply residual branches by 1/sqrt(depth)

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "width", "depth", "dilation_growth", "hidden_factor")


@dataclass(frozen=True, kw_only=True, slots=True)
class TimingConfig:
    """Timing conditioning of a top prior: the position of a window in its song (docs/upstream.md, Conditioning)."""

    bins: int
    min_seconds: float  # shortest song the model was trained on
    max_seconds: float

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "bins", "min_seconds")
        require(
            self.max_seconds > self.min_seconds,
            f"max_seconds {self.max_seconds} must exceed min_seconds {self.min_seconds}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """Artist and genre conditioning."""

    vocabulary: Literal["v2", "v3"]  # v2: genres are up to `max_genre_words` words; v3: one id a genre
    artists: int  # rows of the artist table
    genres: int
    max_genre_words: int

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "artists", "genres", "max_genre_words")
        require(self.vocabulary in ("v2", "v3"), f"vocabulary is {self.vocabulary!r}; choose 'v2' or 'v3'")
        require(
            self.vocabulary == "v2" or self.max_genre_words == 1,
            f"a v3 label has one genre, but max_genre_words is {self.max_genre_words}; set it to 1",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LyricsConfig:
    """Lyric conditioning: in one sequence with the music, or through an encoder of its own."""

    tokens: int  # lyric characters that condition a window
    characters: int  # vocabulary size including the padding character
    loss_fraction: float = 0.0
    encoder: TransformerConfig | None = None  # None: lyrics precede the music in a single sequence
    alignment_layer: int | None = None
    alignment_head: int | None = None

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "tokens", "characters")
        require(self.loss_fraction >= 0, f"loss_fraction is {self.loss_fraction}; it cannot be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorConfig:
    """The autoregressive transformer of one level: a top prior, or an upsampler if `upsample` is given."""

    level: int
    context: int  # tokens in a full window of this level (n_ctx)
    transformer: TransformerConfig
    labels: LabelConfig | None = None
    timing: TimingConfig | None = None  # top level only
    lyrics: LyricsConfig | None = None  # top level only
    upsample: UpsampleConfig | None = None  # upsamplers only
    merged_decoder: bool = False  # separate output projection, and no second addition of the condition

    def __post_init__(self) -> None:
        """Checks ranges and which parts go together."""
        require_positive(self, "context")
        require(self.level >= 0, f"level is {self.level}; levels count from 0, the bottom")
        if self.upsample is not None:
            require(self.lyrics is None, f"the upsampler of level {self.level} cannot have lyrics; remove them")
            require(self.timing is None, f"the upsampler of level {self.level} cannot have timing; remove it")
        blocks = self.transformer.blocks
        if blocks is not None:
            require(
                self.positions % blocks == 0,
                f"{self.positions} positions of level {self.level} do not fold into {blocks} blocks; "
                "choose a context that the number of blocks divides",
            )

    @property
    def single_sequence(self) -> bool:
        """Whether lyrics and music share one sequence and one vocabulary (the 1b_lyrics kind)."""
        return self.lyrics is not None and self.lyrics.encoder is None

    @property
    def lyric_positions(self) -> int:
        """Positions of the sequence that hold lyrics before the first music token."""
        return self.lyrics.tokens if self.lyrics is not None and self.single_sequence else 0

    @property
    def positions(self) -> int:
        """Length of the transformer's whole sequence: lyric positions, then `context` music tokens."""
        return self.lyric_positions + self.context


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorsConfig:
    """The priors of a model, one a level: of three levels, as the released models have them, or of two."""

    level_0: PriorConfig
    level_1: PriorConfig
    level_2: PriorConfig | None = None

    def __post_init__(self) -> None:
        """Checks that each prior sits at its level."""
        for level, prior in enumerate(self):
            require(prior.level == level, f"priors.level_{level}.level is {prior.level}; it must be {level}")
            upsampler = level < len(self) - 1
            require(
                (prior.upsample is not None) == upsampler,
                f"priors.level_{level} {'needs' if upsampler else 'cannot have'} an upsample section",
            )

    def __len__(self) -> int:
        return len(self._levels)

    def __iter__(self) -> Iterator[PriorConfig]:
        return iter(self._levels)

    def __getitem__(self, level: int) -> PriorConfig:
        return self._levels[level]

    @property
    def _levels(self) -> tuple[PriorConfig, ...]:
        return (self.level_0, self.level_1, *(() if self.level_2 is None else (self.level_2,)))


@dataclass(frozen=True, kw_only=True, slots=True)
class JukeboxNetwork:
    """Section ``network`` of a preset."""

    vqvae: VQVAEConfig
    priors: PriorsConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class JukeboxConfig:
    """A complete model: VQ-VAE and priors, bottom level first."""

    name: str
    vqvae: VQVAEConfig
    priors: PriorsConfig

    def __post_init__(self) -> None:
        """Checks that there is one prior for each level of codes."""
        require(
            self.vqvae.levels == len(self.priors),
            f"the VQ-VAE has {self.vqvae.levels} levels but there are {len(self.priors)} priors; they must agree",
        )

    @property
    def sample_rate(self) -> int:
        """Audio samples a second, Hz."""
        return self.vqvae.sample_rate

    @property
    def hops(self) -> tuple[int, ...]:
        """Audio samples per token of each level, bottom level first."""
        return self.vqvae.hops

    @property
    def bins(self) -> int:
        """Size of each level's codebook."""
        return self.vqvae.bins

    @property
    def top(self) -> int:
        """Index of the top level."""
        return self.vqvae.levels - 1

    def upsampling_factor(self, level: int) -> int:
        """Tokens of `level` for each token of the level above: 4 for the released models."""
        hops = self.vqvae.hops
        return hops[level + 1] // hops[level]

    def context_length(self, level: int) -> int:
        """Length of a full window of `level` in audio samples: the sample_length of its labels."""
        return self.priors[level].context * self.vqvae.hops[level]

    def seconds(self, level: int, tokens: int) -> float:
        """Duration of `tokens` tokens of `level`, in seconds."""
        return tokens * self.vqvae.hops[level] / self.vqvae.sample_rate


def level_of(role: str) -> int:
    """Returns the level whose prior fills `role`, as in ``level_2``."""
    return int(role.removeprefix("level_"))
