"""Hyperparameters of MT3 models (section ``network`` of a preset) and the settings of a transcription. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from jukebox_core.base.checks import require, require_positive
from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

TRANSCRIBER = "transcriber"  # the one role: encoder, decoder and memory are one file
SPECIAL_IDS = 3  # padding (also the decoder's start), end of sequence, unknown
PAD_ID, EOS_ID, UNKNOWN_ID = range(SPECIAL_IDS)

MOST_BEAMS = 64
SHORTEST_SECONDS = 0.01  # of a recording

Mode = Literal["ties", "noties", "onsets"]
Granularity = Literal["full", "midi_class", "flat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontEndConfig:
    """Audio to log-mel spectrograms, one for each segment."""

    sample_rate: int = 16000  # Hz
    hop: int = 128  # audio samples per frame
    fft: int = 2048
    mels: int = 512
    low_hz: float = 20.0
    high_hz: float = 7600.0
    segment_frames: int = 256
    slopes: Literal["mel", "hz"] = "mel"  # the unit in which the filters are triangles: Magenta's, MR-MT3's
    normalise: bool = False  # clip to [-12, 5] and scale to [0, 1]: MR-MT3's own checkpoints

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "sample_rate", "hop", "fft", "mels", "segment_frames")
        require(self.hop <= self.fft, f"hop is {self.hop}; it must not exceed fft, {self.fft}")
        require(
            0 <= self.low_hz < self.high_hz <= self.sample_rate / 2,
            f"low_hz is {self.low_hz} and high_hz {self.high_hz}; they must rise within 0 to {self.sample_rate / 2:g}",
        )

    @property
    def segment_samples(self) -> int:
        """Audio samples of a segment."""
        return self.segment_frames * self.hop


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearFrontEndConfig:
    """Audio to spectrograms of all frequencies, one for each segment, scaled to [0, 1): YourMT3's."""

    sample_rate: int = 16000  # Hz
    hop: int = 300  # audio samples per frame
    fft: int = 2048
    segment_samples: int = 32767  # audio samples of a segment

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "sample_rate", "hop", "fft", "segment_samples")
        require(self.hop <= self.fft, f"hop is {self.hop}; it must not exceed fft, {self.fft}")
        require(self.fft % 2 == 0, f"fft is {self.fft}; it must be even")
        least = self.fft // 2 + 1
        require(
            self.segment_samples >= least,
            f"segment_samples is {self.segment_samples}; segments are mirrored at their ends and need {least} or more",
        )

    @property
    def segment_frames(self) -> int:
        """Frames of a segment, which are centred on every `hop` samples."""
        return self.segment_samples // self.hop + 1

    @property
    def bins(self) -> int:
        """Frequencies of a frame; the lowest, 0 Hz, is left out."""
        return self.fft // 2


AnyFrontEnd = FrontEndConfig | LinearFrontEndConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class VocabularyConfig:
    """Which events there are, and how notes become events."""

    steps_per_second: int = 100  # resolution of time
    max_shift_steps: int = 1000  # the longest time that one event can express
    velocity_bins: int = 1  # loudness levels besides 0, which ends a note
    mode: Mode = "ties"  # ties: segments begin with the notes that are sounding; onsets: notes have no end
    granularity: Granularity = "full"  # programs of training targets: as they are, by class of 8, or none

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "steps_per_second", "max_shift_steps", "velocity_bins")
        require(self.velocity_bins <= 127, f"velocity_bins is {self.velocity_bins}; MIDI has 127 levels")


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """T5 1.1, encoder and decoder, without relative positions."""

    width: int = 512
    heads: int = 6
    head_width: int = 64
    mlp_width: int = 1024
    encoder_depth: int = 8  # 0 where another encoder is in its place
    decoder_depth: int = 8
    embeddings: int = 1536  # rows of the token table, unused ones included
    max_tokens: int = 1024  # of a segment, the start token included
    positions: Literal["file", "magenta", "port"] = "file"  # frequencies: the file's, 10000^(-i/(W/2-1)), 10000^(-2i/W)

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "width", "heads", "head_width", "mlp_width", "decoder_depth", "embeddings")
        require(self.encoder_depth >= 0, f"encoder_depth is {self.encoder_depth}; it cannot be negative")
        require(self.width % 2 == 0 and self.width >= 4, f"width is {self.width}; it must be even and at least 4")
        require(self.max_tokens >= 2, f"max_tokens is {self.max_tokens}; it must be at least 2")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryConfig:
    """Segment memory of MR-MT3: the decoder also reads what was transcribed of the segment before."""

    length: int  # memory vectors that are read; not in the file, and 0 is a model that reads none
    depth: int = 1  # encoder layers

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "depth")
        require(self.length >= 0, f"length is {self.length}; it cannot be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class PerceiverConfig:
    """Perceiver-TF, the encoder of YourMT3, and the channels of instruments that its decoder writes."""

    convolutions: int = 128  # channels of the convolutions before it
    latents: int = 26  # learned vectors of each frame
    width: int = 128  # of a latent; also the frequencies that the convolutions leave
    heads: int = 8
    blocks: int = 3
    local_depth: int = 2  # layers of a block that attend to the latents of a frame
    temporal_depth: int = 2  # layers of a block that attend to one latent of all frames
    experts: int = 8  # feed-forward parts of each layer
    experts_used: int = 2  # of them, by each latent
    mlp_width: int = 512  # of an expert
    channels: int = (
        13  # instruments groups that are decoded apart; latents / channels vectors of a frame are read by each
    )
    positions: int = 1034  # rows of the decoder's table of positions

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(
            self, "convolutions", "latents", "width", "heads", "blocks", "local_depth", "temporal_depth", "experts",
            "experts_used", "mlp_width", "channels", "positions",
        )  # fmt: skip
        require(
            self.width % (4 * self.heads) == 0,
            f"width is {self.width}; it must be a multiple of 4 * heads, {4 * self.heads}: half of each head is "
            "turned in pairs",
        )
        require(
            self.latents % self.channels == 0,
            f"latents is {self.latents}; it must be a multiple of channels, {self.channels}",
        )
        require(
            self.experts_used <= self.experts,
            f"experts_used is {self.experts_used}; the model has {self.experts} experts",
        )


HALVINGS = 3  # of the frequencies, by the convolutions before a Perceiver


@dataclass(frozen=True, kw_only=True, slots=True)
class MT3Network:
    """Section ``network`` of a preset."""

    front_end: AnyFrontEnd  # linear with a Perceiver, mel otherwise
    vocabulary: VocabularyConfig
    transformer: TransformerConfig
    memory: MemoryConfig | None = None
    perceiver: PerceiverConfig | None = None  # the encoder, in the place of the transformer's

    @classmethod
    def section_types(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the type of `front_end`, which the encoder decides."""
        return {"front_end": LinearFrontEndConfig if data.get("perceiver") else FrontEndConfig}

    def __post_init__(self) -> None:
        """Checks that the parts fit each other."""
        depth, perceiver = self.transformer.encoder_depth, self.perceiver
        if perceiver is None:
            require(depth > 0, f"transformer.encoder_depth is {depth}; it must be positive")
            require(isinstance(self.front_end, FrontEndConfig), "front_end is linear, which a perceiver reads; add one")
            return
        require(depth == 0, f"transformer.encoder_depth is {depth}; with a perceiver, which is the encoder, it is 0")
        require(self.memory is None, "memory is given; a model with a perceiver has none, so give null")
        positions, tokens = self.transformer.positions, self.transformer.max_tokens
        require(positions == "file", f"transformer.positions is {positions!r}; with a perceiver they are in the file")
        require(
            tokens - 1 <= perceiver.positions,
            f"transformer.max_tokens is {tokens}, but perceiver.positions has {perceiver.positions} rows; lower it",
        )
        assert isinstance(self.front_end, LinearFrontEndConfig), "`section_types`"
        left = self.front_end.bins >> HALVINGS
        require(
            left == perceiver.width,
            f"perceiver.width is {perceiver.width}, but of {self.front_end.bins} frequencies (front_end.fft / 2) the "
            f"convolutions leave {left}; they must be equal",
        )

    @property
    def channels(self) -> int:
        """Sequences of ids that are written for each segment."""
        return self.perceiver.channels if self.perceiver else 1


@dataclass(frozen=True, kw_only=True, slots=True)
class MT3Config:
    """A complete model."""

    name: str
    network: MT3Network

    def __post_init__(self) -> None:
        """Checks that the model has every id of its vocabulary."""
        needed, rows = event_count(self.network.vocabulary) + SPECIAL_IDS, self.network.transformer.embeddings
        require(needed <= rows, f"transformer.embeddings is {rows}, but the vocabulary has {needed} ids; raise it")

    @property
    def sample_rate(self) -> int:
        """Audio samples a second, Hz."""
        return self.network.front_end.sample_rate

    @property
    def hops(self) -> NoReturn:
        """Refuses: there are no codes."""
        raise generates_nothing()

    bins = top = hops

    def seconds(self, _level: int, _tokens: int) -> NoReturn:
        """Refuses: there are no codes."""
        raise generates_nothing()


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptionConfig:
    """How a recording is transcribed."""

    parity: bool = False  # reproduce upstream's defects (docs/transcribe.md) instead of correct results
    constrained: bool = False  # only ids that continue the sequence validly; segments one after the other
    num_beams: int = 1  # hypotheses of beam search; 1: greedy
    batch_size: int = 16  # sequences decoded in one batch, beams included, at least one segment's; it changes no token
    max_tokens: int | None = None  # of a segment, the start token included; None: as the model
    programs: tuple[int, ...] | None = None  # the only programs allowed; None: all
    memory_start_token: bool = True  # the memory includes the start token, as at upstream's inference, not in training

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "batch_size", "num_beams")
        require(self.num_beams <= MOST_BEAMS, f"num_beams is {self.num_beams}; it must be at most {MOST_BEAMS}")
        require(
            self.max_tokens is None or self.max_tokens >= 2, f"max_tokens is {self.max_tokens}; it must be at least 2"
        )
        if self.programs is not None:
            require(bool(self.programs), "programs is empty, which bans every note but drums; name a program, or null")
            for program in self.programs:
                require(0 <= program < 128, f"programs holds {program}; programs are 0 to 127")
        require(
            not (self.parity and self.constrained),
            "parity and constrained exclude each other: upstream decodes without constraints; choose one",
        )
        require(
            not (self.parity and self.num_beams > 1),
            f"parity and num_beams={self.num_beams} exclude each other: upstream decodes greedily; choose one",
        )


def check_transcription(network: MT3Network, settings: TranscriptionConfig) -> None:
    """Checks that a model can transcribe in the way that `settings` ask for.

    Raises:
        ConfigError: it has no defects to reproduce, or no positions for as many tokens.
    """
    if network.perceiver is None:
        return
    require(
        not settings.parity,
        "transcription.parity is true, but of YourMT3 no defects are recorded that could be reproduced; leave it false",
    )
    rows = network.perceiver.positions
    require(
        (settings.max_tokens or 0) - 1 <= rows,
        f"transcription.max_tokens is {settings.max_tokens}, but the model has {rows} positions; lower it",
    )


def is_sequential(network: MT3Network, settings: TranscriptionConfig) -> bool:
    """Whether each segment depends on the one before: with a memory, and with constraints."""
    return settings.constrained or bool(network.memory and network.memory.length)


def generates_nothing() -> ConfigError:
    """Returns the error for anything but transcription that is asked of these models."""
    return ConfigError(
        "models of the family mt3 transcribe music, and neither generate nor encode it; transcribe with "
        "`jukebox transcribe`, or choose a model of another family, as model=mini"
    )


def event_count(vocabulary: VocabularyConfig) -> int:
    """Returns the number of events: shifts, pitches, velocities, the tie, programs and drums."""
    return (vocabulary.max_shift_steps + 1) + 128 + (vocabulary.velocity_bins + 1) + 1 + 128 + 128
