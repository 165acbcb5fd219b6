"""Windows to sample without a run around them: the jobs and nodes that `stages.sampling.sample` takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jukebox_core.families.jukebox.conditioning.labels import SongLabels
from jukebox_core.families.jukebox.sampling.config import SamplingConfig
from jukebox_core.families.jukebox.sampling.song_plan import SongSpec, plan_song
from jukebox_core.sampling.windows import FlushPolicy
from stages.sampling.sample import SamplingJob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.tokens.graph import Node
    from stages.handles import FileHandle


def shards(
    model: ModelSettings,
    weights: Mapping[str, FileHandle],
    store: str,
    hardware: HardwareConfig,
    *,
    tokens: int,
    songs: int = 1,
    stop_level: int = 0,
) -> tuple[SamplingJob, list[list[Node]]]:
    """Returns the job, and in the order in which levels need them the windows of songs of `tokens` top-level tokens."""
    config = model.config
    length = tokens * config.vqvae.hops[config.top]
    sampling = SamplingConfig(n_samples=songs, stop_level=stop_level)
    timing = config.priors[config.top].timing
    whole = length if timing is None else max(length, int(2 * timing.min_seconds * config.vqvae.sample_rate))
    labels = [
        SongLabels(
            artist_id=0,
            genre_ids=(0,),
            lyric_tokens=tuple(range(1, 40)) if prior.lyrics else (),
            total_length=whole,
            offset=0,
        )
        for prior in (config.priors[level] for level in range(config.top + 1))
    ]
    spec = SongSpec(
        config=config,
        weights=[weights[f"level_{level}"].identity for level in range(config.top + 1)],
        sampling=sampling,
        dtype=hardware.dtype,
        sample=0,
        labels=labels,
        length=length,
    )
    plans = [plan_song(replace(spec, sample=song)) for song in range(songs)]
    job = SamplingJob(
        family="jukebox",
        config=config,
        weights={f"level_{level}": weights[f"level_{level}"] for level in range(config.top + 1)},
        sampling=sampling,
        hardware=hardware,
        store=store,
        policy=FlushPolicy(),
    )
    return job, [list(nodes) for nodes in zip(*(plan.nodes for plan in plans), strict=True)]
