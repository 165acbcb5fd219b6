"""Settings of sampling (section ``sampling``), as frozen records. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from jukebox_core.errors import ConfigError
from jukebox_core.sampling.config import DrawConfig

MOST_SAMPLES = 100_000  # of a run: every window of each is planned in memory


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelSampling(DrawConfig):
    """How one level is sampled: how its tokens are drawn, and how far its windows overlap."""

    temperature: float = 0.99  # above 1 more varied, below 1 more regular
    hop_fraction: float = 0.5  # start of a window after the one before, as a share of the context

    def __post_init__(self) -> None:
        """Checks ranges."""
        DrawConfig.__post_init__(self)
        if not 0 < self.hop_fraction <= 1:
            raise ConfigError(f"hop_fraction is {self.hop_fraction}; it must be above 0 and at most 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """Settings of sampling: seed, number of songs, last level, and how each level draws its tokens."""

    seed: int = 0  # another one gives other music
    n_samples: int = 1  # songs, sampled in one batch
    stop_level: int = 0  # the last level that is sampled: 2 samples the top level only, 0 all levels
    level_0: LevelSampling = LevelSampling()
    level_1: LevelSampling = LevelSampling()
    level_2: LevelSampling = LevelSampling(hop_fraction=0.125)

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}; it must be between 0 and 2**63 - 1")
        if not 1 <= self.n_samples <= MOST_SAMPLES:
            raise ConfigError(f"n_samples is {self.n_samples}; ask for at least 1, at most {MOST_SAMPLES:,} a run")
        if self.stop_level not in range(3):
            raise ConfigError(f"stop_level is {self.stop_level}; choose 2 (top only), 1, or 0 (all levels)")

    def level(self, level: int) -> LevelSampling:
        """Returns how `level` is sampled."""
        return (self.level_0, self.level_1, self.level_2)[level]
