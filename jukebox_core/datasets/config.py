"""What recordings must be like to be learnt from. Imports no torch, and no numpy."""

from __future__ import annotations

from dataclasses import dataclass

from jukebox_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckConfig:
    """What recordings must be like."""

    shortest_seconds: float = 6.0
    silence_db: float = -60.0  # quieter ones, by their RMS against full scale, are silent
    clipped_share: float = 0.001  # of samples at full scale, from which a recording counts as clipped
    most_unreadable: float = 0.1  # share of files; above it the folder is refused

    def __post_init__(self) -> None:
        """Checks ranges."""
        if self.shortest_seconds <= 0:
            raise ConfigError(f"shortest_seconds is {self.shortest_seconds}; it must be above 0")
        for name in ("clipped_share", "most_unreadable"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it is a share, from 0 to 1")
