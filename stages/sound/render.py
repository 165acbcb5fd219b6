"""Outputs of a run besides audio: codes files and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.audio.files import read_audio
from jukebox_core.audio.pictures import spectrogram_png, waveform_png
from jukebox_core.store.spans import read_spans
from jukebox_core.store.spooled import open_store
from jukebox_core.tokens.codes import Codes, write_codes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jukebox_core.tokens.graph import Take


def write_song_codes(take: Take, store: str, about: Mapping[str, object], path: Path) -> Path:
    """Writes one song's tokens, all levels that exist, as a codes file; returns its path."""
    tokens = open_store(store)
    levels = {level: read_spans(tokens, tuple(track)) for level, track in enumerate(take) if len(track)}
    write_codes(path, Codes(levels, about))
    return path


def draw_sound(audio: Path, rate: int, waveform: Path, spectrogram: Path) -> None:
    """Draws the waveform and the spectrogram of an audio file, each atomically."""
    samples = read_audio(str(audio), rate=rate)
    waveform_png(samples, rate, waveform)
    spectrogram_png(samples, rate, spectrogram)
