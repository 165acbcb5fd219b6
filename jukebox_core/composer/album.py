"""Many songs at once: every artist and genre in turn, each song with a seed of its own. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from jukebox_core.composer.render import render
from jukebox_core.composer.score import Score, compose
from jukebox_core.composer.styles import ARTISTS, GENRES, artist_of, genre_of
from jukebox_core.errors import ConfigError, LabelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LENGTHS = (0.5, 1.5)  # songs last from the one to the other times the length asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class AlbumConfig:
    """Songs to compose, and the folder they are written to (root conf/compose.yaml)."""

    songs: int
    seconds: float = 30.0  # songs last half to one and a half times as long
    seed: int = 0
    artists: tuple[str, ...] = ()  # who plays; empty: all that the composer knows
    genres: tuple[str, ...] = ()  # what is played; empty: all that the composer knows
    instrumental: float = 0.2  # share of songs without words
    sample_rate: int = 22050
    channels: int = 1
    format: Literal["wav", "flac"] = "wav"
    folder: str = "outputs/songs"

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


@dataclass(frozen=True, slots=True)
class Track:
    """A song of an album, not composed yet."""

    name: str  # of its file
    seed: int
    artist: str
    genre: str
    seconds: float
    sung: bool

    def compose(self) -> Score:
        """Returns the song as notes."""
        return compose(self.seed, artist=self.artist, genre=self.genre, seconds=self.seconds, sung=self.sung)


def plan_album(config: AlbumConfig) -> list[Track]:
    """Returns the songs of an album: what song i is does not depend on how many there are."""
    pairs = [(artist, genre) for artist in config.artists or tuple(ARTISTS) for genre in config.genres or tuple(GENRES)]
    tracks = []
    for number in range(config.songs):
        turn, place = divmod(number, len(pairs))
        artist, genre = pairs[np.random.default_rng((config.seed, turn)).permutation(len(pairs))[place]]
        rng = np.random.default_rng((config.seed, 1, number))
        tracks.append(
            Track(
                name=f"{number:05}-{artist.replace(' ', '-')}-{genre}.{config.format}",
                seed=int(rng.integers(2**62)),
                artist=artist,
                genre=genre,
                seconds=config.seconds * float(rng.uniform(*_LENGTHS)),
                sung=bool(rng.random() >= config.instrumental),
            )
        )
    return tracks


def perform(score: Score, config: AlbumConfig) -> NDArray[np.float32]:
    """Returns a song's sound as an album wants it, float32 [time, channels]."""
    return render(score, config.sample_rate, channels=config.channels)
