"""The flow that makes songs: fetch, label, encode, sample level by level, decode, render.

The unit of work is the window. Every window of every song is planned, with its key, before the first one is sampled;
windows whose key is stored are reused, so the same command continues where it was stopped.
"""

from __future__ import annotations

import logging
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow

from jukebox_core.errors import DamagedError
from jukebox_core.records import build
from jukebox_core.tokens.plan import split_batch
from jukebox_core.tokens.store import TokenStore
from pipelines import tasks
from pipelines.outputs import write_outputs
from pipelines.planning import plan_run, song_requests
from pipelines.runs import RunFolder, take_to_json
from pipelines.settings import Settings
from pipelines.stopwatch import Stopwatch
from stages.progress import metering
from stages.sample import SamplingJob

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jukebox_core.families.jukebox.song import SongPlan
    from jukebox_core.tokens.graph import Node
    from pipelines.planning import RunPlan
    from stages.handles import FileHandle

log = logging.getLogger("jukebox")

REPAIRS = 3  # damaged windows that one run sets aside and samples again before it gives up


@flow(name="generate", persist_result=False, validate_parameters=False)
def generate_flow(config: dict[str, Any], folder: str, live: bool = False) -> str:
    """Makes the songs that `config` describes, in the run folder `folder`; returns the folder.

    Args:
        config: the settings, resolved, as plain data.
        folder: the run's folder, as `pipelines.runs.open_run` made it.
        live: show bars on stderr.
    """
    settings, run = build(Settings, config), RunFolder(Path(folder))
    model, watch = settings.model, Stopwatch(run)
    with watch.time("fetch"):
        vocabularies = tasks.fetch_vocabularies(model.files, settings.weights)
        labels = tasks.label_songs(model.config, vocabularies, song_requests(settings))
        weights = tasks.fetch_weights(model.config, model.files, settings.weights)
    plan = plan_run(settings, labels, weights)
    run.update(
        status="running",
        weights={role: handle.sha256 for role, handle in weights.items()},
        takes=[take_to_json(take) for take in plan.takes],
    )
    with watch.time("encode"):
        for prompt in plan.prompts:
            tasks.encode_prompt(model.config, weights["vqvae"], settings.hardware, prompt, settings.storage.tokens)
    sample_plan(settings, plan, weights, watch, live=live)
    write_outputs(settings, run, plan.takes, weights, watch)
    return folder


def sample_plan(
    settings: Settings, plan: RunPlan, weights: Mapping[str, FileHandle], watch: Stopwatch, *, live: bool
) -> None:
    """Samples every planned window that is not stored yet, level by level.

    A stored window that turns out to be damaged is set aside by the store, and sampled again here.
    """
    for attempt in range(REPAIRS + 1):
        try:
            _sample_missing(settings, plan, weights, watch, live=live)
        except DamagedError as error:
            if attempt == REPAIRS:
                raise
            log.warning("%s: sampling that window again", error)
        else:
            return


def _sample_missing(
    settings: Settings, plan: RunPlan, weights: Mapping[str, FileHandle], watch: Stopwatch, *, live: bool
) -> None:
    missing, nodes = plan.missing(TokenStore(settings.storage.tokens)), plan.nodes
    job = SamplingJob(
        config=settings.model.config,
        weights={level: weights[f"level_{level}"] for level in range(settings.model.vqvae.levels)},
        sampling=settings.sampling,
        hardware=settings.hardware,
        store=settings.storage.tokens,
        flush_tokens=settings.storage.flush_tokens,
        flush_seconds=settings.storage.flush_seconds,
        scratch=settings.storage.scratch,
        snapshot_share=settings.storage.snapshot_share,
    )
    levels = sorted({node.level for node in nodes}, reverse=True)
    left = {level: sum(n.window.new for n in nodes if n.level == level and n.key in missing) for level in levels}
    with metering(left, live=live):
        for level in levels:
            here = [node for node in nodes if node.level == level]
            new = [node for node in here if node.key in missing]
            log.info("level %d: %d windows, %d of them reused", level, len(here), len(here) - len(new))
            with watch.time("sample", level=level, tokens=left[level], windows=len(new), reused=len(here) - len(new)):
                for shard in shards(plan.songs, level, settings.hardware.batch_size):
                    if any(node.key in missing for node in shard):
                        tasks.sample_shard(job, shard)


def shards(plans: Sequence[SongPlan], level: int, batch_size: int) -> Iterator[list[Node]]:
    """Yields the windows of one level in the order they are sampled, those of songs that keep step together.

    Songs are cut into groups of at most `batch_size`; a group goes from window to window side by side. Songs of a
    group whose windows differ, because their prompts have other lengths, are sampled apart.
    """
    start = 0
    for size in split_batch(len(plans), batch_size):
        group = [plan.level(level) for plan in plans[start : start + size]]
        start += size
        for index in range(max(map(len, group))):
            row = sorted((nodes[index] for nodes in group if index < len(nodes)), key=lambda node: node.window)
            for _, alike in groupby(row, key=lambda node: node.window):
                yield sorted(alike, key=lambda node: node.sample)
