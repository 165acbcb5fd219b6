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
from jukebox_core.families.jukebox.song import SongPlan, SongSpec, plan_song
from jukebox_core.records import build
from jukebox_core.tokens.graph import Take, Track
from jukebox_core.tokens.plan import split_batch
from jukebox_core.tokens.store import TokenStore
from pipelines.outputs import write_outputs
from pipelines.requests import prompt_excerpts, song_requests
from pipelines.runs import RunFolder, take_to_json
from pipelines.settings import Settings
from pipelines.stopwatch import Stopwatch
from stages.encode import encode_prompts_task
from stages.fetch import fetch_vocabularies_task, fetch_weights_task
from stages.label import label_task
from stages.progress import metering
from stages.sample import SamplingJob, sample_window_task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jukebox_core.families.jukebox.labels import SongLabels
    from jukebox_core.tokens.graph import Node
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
        vocabularies = fetch_vocabularies_task(model.files, settings.weights)
        labels = label_task(model.config, vocabularies, song_requests(settings))
        weights = fetch_weights_task(model.config, model.files, settings.weights)
    with watch.time("encode"):
        have = starting_takes(settings, weights)
    plans = [
        plan_song(song_spec(settings, sample, labels[sample], weights), have[sample])
        for sample in range(settings.sampling.n_samples)
    ]
    run.update(
        status="running",
        weights={role: handle.sha256 for role, handle in weights.items()},
        takes=[take_to_json(plan.take) for plan in plans],
    )
    sample_plans(settings, plans, weights, watch, live=live)
    write_outputs(settings, run, [plan.take for plan in plans], weights, watch)
    return folder


def starting_takes(settings: Settings, weights: Mapping[str, FileHandle]) -> list[Take]:
    """Returns what each song has before sampling begins: an earlier run's take, a prompt's codes, or nothing."""
    config = settings.model.config
    if settings.source is not None:
        takes = RunFolder(Path(settings.source.run).expanduser()).takes()
        seconds = settings.source.keep_seconds
        if seconds is None:
            return takes
        return [cut_take(take, config.vqvae.hops, seconds_to_samples(settings, seconds)) for take in takes]
    excerpts = prompt_excerpts(settings)
    if not excerpts:
        return [(Track(),) * config.vqvae.levels] * settings.sampling.n_samples
    return encode_prompts_task(config, weights["vqvae"], settings.hardware, excerpts, settings.storage.tokens)


def seconds_to_samples(settings: Settings, seconds: float) -> int:
    """Returns a duration in audio samples, cut to whole top-level tokens."""
    hop = settings.model.vqvae.hops[-1]
    return int(seconds * settings.model.vqvae.sample_rate) // hop * hop


def cut_take(take: Take, hops: Sequence[int], length: int) -> Take:
    """Returns a take's first `length` audio samples, at every level."""
    return tuple(track.cut(length // hop) for track, hop in zip(take, hops, strict=True))


def song_spec(
    settings: Settings, sample: int, labels: Sequence[SongLabels], weights: Mapping[str, FileHandle]
) -> SongSpec:
    """Returns everything that decides the tokens of one song."""
    return SongSpec(
        config=settings.model.config,
        weights=[weights[f"level_{level}"].sha256 for level in range(settings.model.vqvae.levels)],
        sampling=settings.sampling,
        dtype=settings.hardware.dtype,
        sample=sample,
        labels=labels,
        length=settings.length,
    )


def sample_plans(
    settings: Settings, plans: Sequence[SongPlan], weights: Mapping[str, FileHandle], watch: Stopwatch, *, live: bool
) -> None:
    """Samples every planned window that is not stored yet, level by level.

    A stored window that turns out to be damaged is set aside by the store, and sampled again here.
    """
    for attempt in range(REPAIRS + 1):
        try:
            _sample_missing(settings, plans, weights, watch, live=live)
        except DamagedError as error:
            if attempt == REPAIRS:
                raise
            log.warning("%s: sampling that window again", error)
        else:
            return


def _sample_missing(
    settings: Settings, plans: Sequence[SongPlan], weights: Mapping[str, FileHandle], watch: Stopwatch, *, live: bool
) -> None:
    store = TokenStore(settings.storage.tokens)
    nodes = [node for plan in plans for node in plan.nodes]
    missing = {node.key for node in nodes if not store.sealed(node.key)}
    job = SamplingJob(
        config=settings.model.config,
        weights={level: weights[f"level_{level}"] for level in range(settings.model.vqvae.levels)},
        sampling=settings.sampling,
        hardware=settings.hardware,
        store=settings.storage.tokens,
        flush_tokens=settings.storage.flush_tokens,
        flush_seconds=settings.storage.flush_seconds,
    )
    levels = sorted({node.level for node in nodes}, reverse=True)
    left = {level: sum(n.window.new for n in nodes if n.level == level and n.key in missing) for level in levels}
    with metering(left, live=live):
        for level in levels:
            here = [node for node in nodes if node.level == level]
            new = [node for node in here if node.key in missing]
            log.info("level %d: %d windows, %d of them reused", level, len(here), len(here) - len(new))
            with watch.time("sample", level=level, tokens=left[level], windows=len(new), reused=len(here) - len(new)):
                for shard in shards(plans, level, settings.hardware.batch_size):
                    if any(node.key in missing for node in shard):
                        sample_window_task(job, shard)


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
