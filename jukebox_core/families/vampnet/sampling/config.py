"""Settings of sampling. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from jukebox_core.base.checks import require, require_positive


@dataclass(frozen=True, kw_only=True, slots=True)
class PassConfig:
    """How one transformer fills masked tokens; the defaults are upstream's."""

    steps: int = 12  # passes
    temperature: float = 1.0  # of tokens; 0 is greedy (in parity: the same as 1)
    top_p: float | None = None  # keep the most likely tokens up to this cumulative probability; null: all
    typical: bool = True  # typical filtering (without effect in parity)
    typical_mass: float = 0.15  # probability that the typical tokens have together
    typical_min_tokens: int = 64  # kept at least
    cutoff: float = 1.0  # share of the passes that draw tokens; later ones take the most likely
    mask_temperature: float = 10.5  # of the choice of tokens that are kept from a pass

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "steps", "typical_min_tokens")
        for name in ("temperature", "mask_temperature"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative")
        for name in ("top_p", "typical_mass"):
            value = getattr(self, name)
            require(value is None or 0 < value <= 1, f"{name} is {value}; it must be above 0 and at most 1")

    def draws(self, done: int, *, parity: bool = False) -> bool:
        """Whether the pass after `done` others draws tokens, instead of taking the most likely."""
        return done / self.steps <= self.cutoff and (self.temperature > 0 or parity)


@dataclass(frozen=True, kw_only=True, slots=True)
class VampSampling:
    """How music is varied (conf/sampling/_vamp.yaml)."""

    seed: int = 0  # another one gives other variations
    n_samples: int = 1  # variations of each recording
    stop_level: int = 0  # 1 makes the coarse codebooks only
    feedback: int = 1  # rounds of the coarse model, each over the result of the one before
    parity: bool = False  # reproduce upstream's defects (docs/vamp.md) instead of correct results
    overlap: float = 0.25  # of a chunk: known tokens that each chunk starts with; none in parity
    coarse: PassConfig = field(default_factory=PassConfig)
    c2f: PassConfig = field(default_factory=lambda: PassConfig(steps=2))

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_positive(self, "n_samples", "feedback")
        require(
            self.stop_level in (0, 1), f"stop_level is {self.stop_level}; it is 0, or 1 for the coarse codebooks only"
        )
        require(0 <= self.seed < 2**63, f"seed is {self.seed}; it must be between 0 and 2**63 - 1")
        require(0 <= self.overlap < 1, f"overlap is {self.overlap}; it must be at least 0 and below 1")
