"""Samples the missing windows of a plan: schedules units of work, submits them to workers, counts and previews them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING

from jukebox_core.base.paths import user_path
from jukebox_core.sampling.schedule import Schedule, plan_units
from jukebox_core.sampling.windows import FlushPolicy
from jukebox_core.store.spooled import open_store
from pipelines.execution.runner import open_workers, run_units
from pipelines.orchestration import artifacts
from stages.progress import DETAIL, meter, metering
from stages.sampling.sample import SamplingJob, hearing_progress
from stages.sampling.shard import WorkerContext

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jukebox_core.sampling.schedule import Unit
    from jukebox_core.tokens.graph import Node
    from pipelines.execution.preflight import Prepared
    from pipelines.execution.previews import Previews
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.runs.timings import Stopwatch
    from pipelines.settings.generate import Settings
    from stages.handles import TokensHandle

log = logging.getLogger("jukebox")


def sample_plan(prepared: Prepared, stages: Stages, watch: Stopwatch, previews: Previews, *, live: bool) -> None:
    """Samples every planned window that is not stored yet, in the order and by the workers that the settings ask for.

    Raises:
        DamagedError: a stored window that is read is damaged; it was set aside.
    """
    plan, runner, storage = prepared.plan, prepared.settings.runner, prepared.settings.storage
    assert plan is not None
    missing = plan.missing(open_store(storage.tokens, spool=storage.spool))
    shards = runner.workers if runner.shards is None else runner.shards
    units = plan_units(plan.songs, prepared.hardware.batch_size or len(plan.songs), shards)
    schedule = Schedule(units, missing, runner.schedule)
    tally = _Tally(plan.nodes, frozenset(schedule.open), remote=runner.kind != "threads")
    board = artifacts.Board(plan.nodes, missing)

    def on_sealed(unit: Unit, _: list[TokensHandle]) -> None:
        tally.end(unit)
        board.window_done(unit.nodes)
        previews.refresh(schedule.open)

    def on_stored(nodes: Sequence[Node]) -> None:
        previews.refresh_partial(nodes, schedule.open)

    early = hearing_progress(on_stored) if runner.preview_partial and runner.in_place else nullcontext()
    try:
        if not schedule:
            return
        previews.refresh(schedule.open)
        with (
            metering(tally.left(), live=live),
            early,
            open_workers(runner, stages, _job(prepared), _context(prepared.settings)) as workers,
        ):
            run_units(schedule, workers, on_submit=tally.start, on_sealed=on_sealed)
    finally:
        tally.record(watch)


def _job(prepared: Prepared) -> SamplingJob:
    settings, weights = prepared.settings, prepared.weights
    assert weights is not None
    storage, library, family = settings.storage, settings.weights.prepared_home, settings.family
    return SamplingJob(
        family=family.name,
        config=settings.config,
        weights={role: weights[role] for level in settings.levels for role in family.files_of(family.role_of(level))},
        sampling=settings.sampling,
        hardware=settings.hardware,
        store=open_store(storage.tokens).uri,  # a worker may run in another folder
        policy=FlushPolicy(
            tokens=storage.flush_tokens,
            seconds=storage.flush_seconds,
            scratch=None if storage.scratch is None else str(user_path(storage.scratch).absolute()),
            snapshot_share=storage.snapshot_share,
        ),
        library=None if library is None else str(library),
        spool=storage.spool,
    )


def _context(settings: Settings) -> WorkerContext:
    runner = settings.runner
    return WorkerContext(
        model=settings.model,
        weights=settings.weights,
        devices=runner.devices,
        remote=runner.kind != "threads",
        resident_networks=len(settings.config.hops) if runner.schedule == "wavefront" else 1,
    )


class _Tally:
    """Windows, tokens and seconds of sampling by level; seconds of units sampled in parallel count once."""

    def __init__(self, nodes: Sequence[Node], unsealed: Collection[str], *, remote: bool) -> None:
        """`remote`: workers are other processes, so that their tokens are counted when a window is sealed."""
        self._remote = remote
        self._levels = sorted({node.level for node in nodes}, reverse=True)
        self._new = {level: [n for n in nodes if n.level == level and n.key in unsealed] for level in self._levels}
        self._reused = Counter(node.level for node in nodes if node.key not in unsealed)
        self._windows: Counter[int] = Counter()
        self._tokens: Counter[int] = Counter()
        self._seconds = dict.fromkeys(self._levels, 0.0)
        self._running: dict[Unit, float] = {}
        self._since: dict[int, float] = {}  # levels that are being sampled
        for level, new in self._new.items():
            reused = self._reused[level]
            shown = None if reused else DETAIL  # what is reused explains why a command is quick
            log.info("level %d: %d windows, %d of them reused", level, len(new) + reused, reused, extra=shown)

    def left(self) -> dict[int, int]:
        """Returns the tokens to be sampled, by level."""
        return {level: sum(node.window.new for node in new) for level, new in self._new.items()}

    def start(self, unit: Unit) -> None:
        """Records that a unit was submitted."""
        self._running[unit] = time.monotonic()
        self._since.setdefault(unit.level, self._running[unit])
        if self._remote:
            meter().start(unit.level)

    def end(self, unit: Unit) -> None:
        """Records that a unit is sealed."""
        began, level, now = self._running.pop(unit), unit.level, time.monotonic()
        new = [node for node in self._new[level] if node.key in unit.keys]
        tokens = sum(node.window.new for node in new)
        self._windows[level] += len(new)
        self._tokens[level] += tokens
        self._seconds[level] += now - self._since.pop(level)
        if any(other.level == level for other in self._running):
            self._since[level] = now
        if self._remote:
            meter().advance(level, tokens, began)
            meter().window_done(unit.nodes, now - began)

    def record(self, watch: Stopwatch) -> None:
        """Writes the timing of every level."""
        for level in self._levels:
            watch.add(
                "sample",
                self._seconds[level],
                level=level,
                tokens=self._tokens[level],
                windows=self._windows[level],
                reused=self._reused[level],
            )
