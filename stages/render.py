"""The task that ends a run: codes files, pictures and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from jukebox_core.audio.files import read_audio
from jukebox_core.audio.pictures import spectrogram_png, waveform_png
from jukebox_core.tokens.codes import Codes, write_codes
from jukebox_core.tokens.store import TokenStore
from stages.report import Report, write_report
from stages.sample import read_spans

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.tokens.graph import Take


@task(name="write codes", cache_policy=NO_CACHE, persist_result=False)
def write_codes_task(take: Take, store: str, about: Mapping[str, object], path: Path) -> Path:
    """Writes one song's tokens, all levels that exist, as a codes file; returns its path."""
    tokens = TokenStore(store)
    levels = {level: read_spans(tokens, tuple(track)) for level, track in enumerate(take) if len(track)}
    write_codes(path, Codes(levels, about))
    return path


@task(name="draw", cache_policy=NO_CACHE, persist_result=False)
def draw_task(audio: Path, rate: int, waveform: Path, spectrogram: Path) -> None:
    """Draws the waveform and the spectrogram of an audio file."""
    samples = read_audio(str(audio), rate=rate)
    waveform.parent.mkdir(parents=True, exist_ok=True)
    waveform_png(samples, rate, waveform)
    spectrogram_png(samples, rate, spectrogram)


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def report_task(folder: Path, report: Report) -> Path:
    """Writes the run's report.html; returns its path."""
    return write_report(folder, report)
