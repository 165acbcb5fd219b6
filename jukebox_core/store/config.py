"""How patient a token store is, as frozen records. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jukebox_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryConfig:
    """How often a request that failed for a passing reason is made again; the time between two grows twofold."""

    attempts: int = 5
    first_seconds: float = 0.2  # between the first two attempts
    most_seconds: float = 5.0  # between any two

    def __post_init__(self) -> None:
        """Checks ranges."""
        _above_zero(self, "attempts", "first_seconds", "most_seconds")

    def waits(self) -> list[float]:
        """Returns the seconds between attempts."""
        return [min(self.most_seconds, self.first_seconds * 2**index) for index in range(self.attempts - 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolConfig:
    """Where windows wait while their remote store is away, and for how long a run goes on without it."""

    folder: str | None = None  # null: $JUKEBOX_SPOOL, or jukebox/spool in the user's cache folder
    megabytes: float = 2048.0  # of windows that wait: a run that has more stops ...
    seconds: float = 3600.0  # ... and so does one whose store has been away for so long
    patience_seconds: float = 2.0  # a write waits so long for the store, as long as it answers

    def __post_init__(self) -> None:
        """Checks ranges."""
        _above_zero(self, "megabytes", "seconds", "patience_seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseConfig:
    """How a run is held in a store that knows no locks: by an object that is written again and again."""

    seconds: float = 30.0  # a holder that has not been heard of for so long has lost the run
    refresh_seconds: float = 5.0  # between two signs of life

    def __post_init__(self) -> None:
        """Checks ranges, and that a sign of life may be late without harm."""
        _above_zero(self, "seconds", "refresh_seconds")
        if self.refresh_seconds * 2 > self.seconds:
            raise ConfigError(
                f"refresh_seconds is {self.refresh_seconds}; it must be at most half of seconds={self.seconds}"
            )


def _above_zero(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not 0 < value < math.inf:
            raise ConfigError(f"{name} is {value}; it must be above 0 and finite")
