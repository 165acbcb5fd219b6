"""Fake run folders with manifests, tracks and tokens, without any model."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.audio.files import write_audio
from jukebox_core.base.hashing import digest
from jukebox_core.store.store import TokenStore
from jukebox_core.tokens.graph import Span, Take, Track
from pipelines.runs.folder import open_run
from pipelines.runs.takes import note_plan
from pipelines.settings.common import RunSettings
from pipelines.settings.compose import GENERATE, compose, dump

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.runs.folder import RunFolder
    from pipelines.settings.generate import Settings


def made_up_take(settings: Settings, name: str, windows: int = 3, bottom: int = 0) -> Take:
    """Tracks of the song's length down to level `bottom`, each of as many spans."""
    tracks = [Track()] * settings.model.network.vqvae.levels
    for level, hop in enumerate(settings.model.config.hops):
        if level >= bottom:
            total = settings.length // hop
            stops = [*(total * (window + 1) // windows for window in range(windows - 1)), total]
            for window, stop in enumerate(stops):
                tracks[level] = tracks[level].extend(digest([name, level, window]), stop)
    return tuple(tracks)


@cache
def composed(overrides: tuple[str, ...]) -> Settings:
    return compose(
        GENERATE, ["model.network.vqvae.sample_rate=44100", *overrides]
    )  # so that lengths are short decimals


def fake_run(name: str, *overrides: str, bottom: int = 0, status: str = "finished") -> RunFolder:
    """A planned run in outputs/, with `status`."""
    settings = replace(composed(overrides), run=RunSettings(name=name))
    takes = [made_up_take(settings, f"{name} {sample}", bottom=bottom) for sample in range(settings.sampling.n_samples)]
    return plan_fake_run(settings, takes, status)


def plan_fake_run(settings: Settings, takes: Sequence[Take], status: str = "finished") -> RunFolder:
    """A run folder of these settings with these takes in it."""
    run = open_run(settings, dump(settings))
    start = [tuple(Track() for _ in take) for take in takes]
    note_plan(settings, run, start, takes)
    run.update(status=status, process=None, weights={"vqvae": "f" * 64, "level_2": "2" * 64})
    return run


def seal(store: str, spans: Sequence[Span]) -> None:
    """Stores tokens for these spans: zeros."""
    for span in spans:
        TokenStore(store).seal(span.key, np.zeros(span.stop - span.start, np.int32), first=span.start, causes={})


def add_songs(run: RunFolder, *levels: Sequence[int], seconds: float = 0.1) -> None:
    """Writes silence as the audio of each sample at these levels, and a preview, which is no song."""
    records: list[dict[str, Any]] = []
    for sample, of_sample in enumerate(levels):
        for level in of_sample:
            path = f"audio/level_{level}/sample_{sample}.wav"
            (run.path / path).parent.mkdir(parents=True, exist_ok=True)
            write_audio(run.path / path, np.zeros(int(8000 * seconds), np.float32), 8000)
            entries = {"tokens": "", "sha256": "", "seconds": seconds, "peak": 0.0, "rms": 0.0}
            records.append({"path": path, "level": level, "sample": sample, **entries})
    (run.path / "audio/preview").mkdir(parents=True)
    write_audio(run.path / "audio/preview/sample_0.wav", np.zeros(800, np.float32), 8000)
    run.update(audio=records)
