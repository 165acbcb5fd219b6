"""Many songs at once: every artist and genre in turn, each song with a seed of its own. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.composer.render import render
from jukebox_core.composer.score import Score, compose
from jukebox_core.composer.styles import ARTISTS, GENRES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jukebox_core.composer.config import AlbumConfig

_LENGTHS = (0.5, 1.5)  # songs last from the one to the other times the length asked for


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
