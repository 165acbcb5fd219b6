"""Settings of the checks of recordings. Imports no torch, and no numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jukebox_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckConfig:
    """Thresholds of the checks of recordings."""

    shortest_seconds: float = 6.0  # a shorter recording is left out
    silence_db: float = -60.0  # RMS relative to full scale, below which a recording is silent
    clipped_share: float = 0.001  # share of samples at full scale, above which a recording is clipped
    most_unreadable: float = 0.1  # largest share of unreadable files in a folder

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not 0 < self.shortest_seconds < math.inf:
            raise ConfigError(f"shortest_seconds is {self.shortest_seconds}; it must be above 0 and finite")
        if math.isnan(self.silence_db):
            raise ConfigError(f"silence_db is {self.silence_db}; write a number of decibels, as in -60")
        for name in ("clipped_share", "most_unreadable"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it is a share, from 0 to 1")
