"""Timings of the stages of a run, kept in its manifest across interruptions."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.runs.folder import RunFolder


class Stopwatch:
    """Measures the stages of one invocation and writes each to the run's manifest as it ends."""

    def __init__(self, run: RunFolder) -> None:
        """Starts with no timings; those of earlier invocations are kept under ``earlier_timings``."""
        self._run = run
        self.began = time.monotonic()
        self.timings: list[dict[str, Any]] = []
        manifest = run.manifest()
        earlier = [*manifest.get("earlier_timings", []), *manifest.get("timings", [])]
        run.update(earlier_timings=earlier, timings=[])

    @contextmanager
    def time(self, stage: str, **counts: int) -> Iterator[None]:
        """Measures the block in seconds; `counts` (level, tokens, windows, reused) are recorded with it."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(stage, time.monotonic() - began, **counts)

    def add(self, stage: str, seconds: float, **counts: int) -> None:
        """Records a stage that was measured elsewhere."""
        self.timings.append({"stage": stage, **counts, "seconds": round(seconds, 3)})
        self._run.update(timings=self.timings)
