"""Whether a remote store answers, as seen from its requests, and when to ask it next. Imports no torch."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.errors import UnreachableError

_log = logging.getLogger("jukebox.store")
_FIRST_BACKOFF, _MAX_BACKOFF = 0.5, 15.0  # seconds between two attempts during an outage


class SpoolHealth:
    """What the latest requests say of a remote store. Not locked: the spool guards it with its own lock.

    Three states: healthy; *degraded*, so that writers do not wait for deliveries, because the store is slow or in an
    outage; and in an *outage*, which lasts from a failed request to the next that is answered, with attempts at growing
    intervals.

    Args:
        uri: the store's address, for messages.
        folder: where windows are kept meanwhile, for messages.
    """

    def __init__(self, uri: str, folder: Path) -> None:
        self._uri, self._folder = uri, folder
        self._degraded = False
        self._outage: tuple[float, UnreachableError] | None = None  # since when, and why
        self._next_attempt, self._backoff = 0.0, _FIRST_BACKOFF

    @property
    def degraded(self) -> bool:
        """Whether writers should not wait for deliveries."""
        return self._degraded

    @property
    def outage(self) -> UnreachableError | None:
        """The latest failure, if no request has been answered since; else None."""
        return self._outage[1] if self._outage is not None else None

    def outage_seconds(self) -> float:
        """Returns how long the outage has lasted, in seconds; 0 without one."""
        return time.monotonic() - self._outage[0] if self._outage is not None else 0.0

    def seconds_to_attempt(self) -> float:
        """Returns the seconds until the next request may be made; 0 or less: now."""
        return self._next_attempt - time.monotonic()

    def on_failure(self, error: UnreachableError) -> None:
        """Notes that a request was not answered."""
        now = time.monotonic()
        self._outage = (now if self._outage is None else self._outage[0], error)
        self.degrade(str(error).rpartition("; ")[0])  # without its advice
        if now >= self._next_attempt:
            self._next_attempt, self._backoff = now + self._backoff, min(2 * self._backoff, _MAX_BACKOFF)

    def on_success(self, *, pending: bool) -> None:
        """Notes that a request was answered; `pending` says whether windows are left to deliver."""
        self._outage = None
        self.attempt_now()
        if self._degraded and not pending:
            self._degraded = False
            _log.info("%s answers again; every window is delivered", self._uri)

    def degrade(self, reason: str) -> None:
        """Lets writers continue without waiting for deliveries, and logs `reason` once."""
        if not self._degraded:
            self._degraded = True
            _log.warning("%s; sampling goes on, and tokens are kept in %s until it answers", reason, self._folder)

    def attempt_now(self) -> None:
        """Resets the backoff: the next request may be made at once."""
        self._next_attempt, self._backoff = 0.0, _FIRST_BACKOFF

    def restart_outage(self) -> None:
        """Counts an outage from now: nothing was pending until now."""
        if self._outage is not None:
            self._outage = (time.monotonic(), self._outage[1])
