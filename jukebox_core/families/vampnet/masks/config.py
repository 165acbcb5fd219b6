"""Settings of masks. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from jukebox_core.base.checks import require


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskConfig:
    """Parts of a mask; what one of them keeps is kept, but for codebooks from `upper_codebook_mask` on."""

    random: float = 1.0  # probability that a token is generated
    prefix_seconds: float = 0.0  # kept at the beginning
    suffix_seconds: float = 0.0  # kept at the end
    period: int = 7  # every how-manieth step is kept; 0: none
    period_width: int = 1  # steps that are kept at once
    onset_width: int = 0  # steps on either side of each onset that are kept
    dropout: float = 0.0  # share of steps that are generated whatever else keeps them
    keep_codebooks: int = 0  # the first codebooks are kept
    upper_codebook_mask: int = 3  # codebooks from this one on are generated, whatever else keeps them

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("random", "dropout"):
            require(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}; it must be within 0 to 1")
        for name in ("prefix_seconds", "suffix_seconds", "period", "onset_width", "keep_codebooks"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative")
        require(self.period_width >= 1, f"period_width is {self.period_width}; it must be at least 1")
        require(
            self.upper_codebook_mask >= 0, f"upper_codebook_mask is {self.upper_codebook_mask}; it cannot be negative"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BeatConfig:
    """Which beats are kept, and how much around them."""

    before_seconds: float = 0.0
    after_seconds: float = 0.02
    upbeats: bool = True  # beats that begin no bar
    downbeats: bool = True
    every: int = 1  # of the upbeats, each how-manieth is kept
    every_downbeat: int = 1
    dropout: float = 0.0  # probability that a step is not kept
    invert: bool = False  # generate what is around beats, and keep the rest

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("before_seconds", "after_seconds"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative")
        for name in ("every", "every_downbeat"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1")
        require(0 <= self.dropout <= 1, f"dropout is {self.dropout}; it must be within 0 to 1")
