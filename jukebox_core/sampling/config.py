"""How tokens are drawn, and how snapshots are described, as frozen records. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jukebox_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawConfig:
    """How a token is drawn from logits. `top_k` and `top_p` narrow the choice; at most one of them may be given."""

    temperature: float = 1.0
    top_k: int | None = None  # keep the k likeliest tokens
    top_p: float | None = None  # keep the likeliest tokens that together have this probability

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not self.temperature > 0:
            raise ConfigError(f"temperature is {self.temperature}; it must be above 0 (0.99 is usual)")
        if self.top_k is not None and self.top_p is not None:
            raise ConfigError(f"top_k={self.top_k} and top_p={self.top_p} are both set; choose one, set the other null")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}; it must be at least 1, or null to keep every token")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must be above 0 and at most 1, or null to keep every token")


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotRecord:
    """The description of a snapshot, a file beside it."""

    extensible: ClassVar[bool] = True
    windows: tuple[str, ...]  # keys
    drawn: int = 0
    sha256: str = ""  # of the snapshot
