"""Settings of masks (conf/mask). Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from jukebox_core.base.checks import require

TRACKER = "librosa"  # the source of beats that listens to the recording


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeRange:
    """A part of a recording, in seconds."""

    start: float
    stop: float

    def __post_init__(self) -> None:
        """Checks that the times rise."""
        require(
            0 <= self.start < self.stop < math.inf,
            f"start is {self.start:g} s and stop {self.stop:g} s; times must rise, and start at 0 or later",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BeatConfig:
    """Where beats are, which of them are kept, and how much around them."""

    source: str | None = None  # librosa: found in the recording; a file of times, or a folder of these; null: `times`
    times: tuple[float, ...] = ()  # of all beats, in seconds; empty without a source: beats keep nothing
    bars: tuple[float, ...] = ()  # those of them that begin bars
    before_seconds: float = 0.0  # kept before each beat
    after_seconds: float = 0.02  # kept after each beat
    upbeats: bool = True  # keep beats that begin no bar
    downbeats: bool = True  # keep beats that begin bars
    every: int = 1  # of the upbeats, each how-manieth is kept
    every_downbeat: int = 1  # of the downbeats, likewise
    dropout: float = 0.0  # probability that a step is not kept
    invert: bool = False  # generate what is around beats, and keep the rest

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("before_seconds", "after_seconds"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative")
        for name in ("every", "every_downbeat"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1")
        require(0 <= self.dropout <= 1, f"dropout is {self.dropout}; it must be within 0 to 1")
        require(self.source != "", "source is empty; give librosa, a file of times, or null")
        require(
            self.source is None or not (self.times or self.bars),
            f"source is {self.source} and times are given as well; give one of them",
        )
        for name in ("times", "bars"):
            for at in getattr(self, name):
                require(0 <= at < math.inf, f"{name} holds {at}; a beat is at 0 s or later")

    @property
    def used(self) -> bool:
        """Whether beats are part of the mask."""
        return self.source is not None or bool(self.times or self.bars)


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskConfig:
    """Parts of a mask; what one of them keeps is kept, but for `dropout` and `upper_codebook_mask`."""

    random: float = 1.0  # probability that a token is generated
    prefix_seconds: float = 0.0  # kept at the beginning
    suffix_seconds: float = 0.0  # kept at the end
    ranges: tuple[TimeRange, ...] = ()  # all outside of these is kept; empty: nothing is
    period: int = 7  # every how-manieth step is kept; 0: none
    period_width: int = 1  # steps that are kept at once
    onset_width: int = 0  # steps on either side of each onset that are kept
    onsets: tuple[int, ...] = ()  # steps at which something begins; empty with an onset_width: found in the recording
    beats: BeatConfig = field(default_factory=BeatConfig)
    file: str | None = None  # a drawn mask: .npy, .csv, .txt, or an image (white is generated)
    drawn: str = ""  # the content of `file`, as runs store it
    dropout: float = 0.0  # share of steps that are generated whatever else keeps them
    keep_codebooks: int = 0  # the first codebooks are kept
    upper_codebook_mask: int | None = 3  # codebooks from this one on are generated, whatever keeps them; null: none
    stretch: int = 1  # slow the music down by this factor: steps are repeated, and repetitions generated

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("random", "dropout"):
            require(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}; it must be within 0 to 1")
        for name in ("prefix_seconds", "suffix_seconds", "period", "onset_width", "keep_codebooks"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative")
        for name in ("prefix_seconds", "suffix_seconds"):
            require(getattr(self, name) < math.inf, f"{name} is {getattr(self, name)}; it must be finite")
        require(self.period_width >= 1, f"period_width is {self.period_width}; it must be at least 1")
        require(min(self.onsets, default=0) >= 0, f"onsets hold {min(self.onsets, default=0)}; steps start at 0")
        upper = self.upper_codebook_mask
        require(upper is None or upper >= 0, f"upper_codebook_mask is {upper}; it cannot be negative")
        require(self.stretch >= 1, f"stretch is {self.stretch}; it must be at least 1")
        require(self.file != "", "file is empty; give a drawn mask, or null")
        require(
            self.file is None or not self.drawn,
            "file and drawn are both given; drawn is the content of a file: give one",
        )

    @property
    def needs_onsets(self) -> bool:
        """Whether onsets have to be found in the recording."""
        return self.onset_width > 0 and not self.onsets
