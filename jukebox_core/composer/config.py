"""Settings of an album of composed songs. Imports no torch, and no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jukebox_core.composer.styles import artist_of, genre_of
from jukebox_core.errors import ConfigError, LabelError


@dataclass(frozen=True, kw_only=True, slots=True)
class AlbumConfig:
    """Songs to compose, and the folder they are written to (root conf/compose.yaml)."""

    songs: int  # how many
    seconds: float = 30.0  # songs last half to one and a half times as long
    seed: int = 0  # another one gives other songs
    artists: tuple[str, ...] = ()  # names of artists; empty: all of the composer's
    genres: tuple[str, ...] = ()  # names of genres; empty: all of the composer's
    instrumental: float = 0.2  # share of songs without lyrics
    sample_rate: int = 22050  # Hz
    channels: int = 1  # or 2
    format: Literal["wav", "flac"] = "wav"
    midi: bool = False  # write the notes of each song beside it, as a MIDI file
    folder: str = "outputs/songs"  # songs are written here

    def __post_init__(self) -> None:
        """Checks ranges and names."""
        for name, low, high in (("songs", 1, 1_000_000), ("sample_rate", 8000, 192_000), ("channels", 1, 2)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}; choose from {low:,} to {high:,}")
        if not 4 <= self.seconds <= 3600:
            raise ConfigError(f"seconds is {self.seconds}; songs last from 4 s to an hour")
        if not 0 <= self.instrumental <= 1:
            raise ConfigError(f"instrumental is {self.instrumental}; it is a share, from 0 to 1")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; it cannot be negative")
        if not self.folder:
            raise ConfigError("folder is empty; give the folder that songs are written to")
        try:
            for artist in self.artists:
                artist_of(artist)
            for genre in self.genres:
                genre_of(genre)
        except LabelError as error:
            raise ConfigError(str(error)) from None
