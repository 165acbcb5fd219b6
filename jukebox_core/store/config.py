"""Retries, spool limits and lease times of a token store, as frozen dataclasses. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jukebox_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryConfig:
    """How often a request is repeated after a transient failure, with exponential backoff."""

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
    """Where windows are kept during an outage of their remote store, and how long a run continues through one."""

    folder: str | None = None  # null: $JUKEBOX_SPOOL, or jukebox/spool in the user's cache folder
    megabytes: float = 2048.0  # of pending windows: a run that has more stops ...
    seconds: float = 3600.0  # ... and so does one whose outage lasts longer
    patience_seconds: float = 2.0  # for which a write waits for its delivery, unless the store is degraded

    def __post_init__(self) -> None:
        """Checks ranges."""
        _above_zero(self, "megabytes", "seconds", "patience_seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseConfig:
    """The times of a lease, by which a run is locked in a store without locks."""

    seconds: float = 30.0  # an owner that has not renewed it for so long has lost the run
    refresh_seconds: float = 5.0  # between two renewals

    def __post_init__(self) -> None:
        """Checks ranges, and that one late renewal loses nothing."""
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
