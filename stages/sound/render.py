"""Outputs of a run besides audio: codes files and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.audio.files import read_audio
from jukebox_core.audio.grid_picture import grid_png
from jukebox_core.audio.pictures import spectrogram_png, waveform_png
from jukebox_core.store.spans import read_spans
from jukebox_core.store.spooled import open_store
from jukebox_core.tokens.codes import Codes, write_codes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jukebox_core.tokens.graph import Take, Track


def write_song_codes(take: Take, store: str, about: Mapping[str, object], path: Path) -> Path:
    """Writes one song's tokens, all levels that exist, as a codes file; returns its path."""
    tokens = open_store(store)
    levels = {level: read_spans(tokens, tuple(track)) for level, track in enumerate(take) if len(track)}
    write_codes(path, Codes(levels, about))
    return path


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A picture of one song's codes: of a track, each step of which is repeated, with what a mask generates covered."""

    track: Track
    repeat: int  # of each step
    generated: str  # the mask, packed as hexadecimal text, row by row; "": none
    bins: int
    seconds: float
    title: str


def draw_grid(grid: Grid, store: str, path: Path) -> None:
    """Draws codes of all codebooks, atomically."""
    codes = np.atleast_2d(read_spans(open_store(store), tuple(grid.track))).repeat(grid.repeat, axis=-1)
    covered = None
    if grid.generated:
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(grid.generated), np.uint8), count=codes.size)
        covered = bits.reshape(codes.shape).astype(np.bool_)
    grid_png(codes, grid.bins, grid.seconds, path, generated_KT=covered, title=grid.title)


def draw_sound(audio: Path, rate: int, waveform: Path, spectrogram: Path) -> None:
    """Draws the waveform and the spectrogram of an audio file, each atomically."""
    samples = read_audio(str(audio), rate=rate)
    waveform_png(samples, rate, waveform)
    spectrogram_png(samples, rate, spectrogram)
