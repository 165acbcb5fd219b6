"""Albums of composed songs: all pairs of artist and genre in turn, with one seed per song. Imports no torch."""

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

_LENGTHS = (0.5, 1.5)  # range of a song's length, relative to `AlbumConfig.seconds`


@dataclass(frozen=True, slots=True)
class Track:
    """The plan of one song of an album."""

    name: str  # of the audio file
    seed: int
    artist: str
    genre: str
    seconds: float
    sung: bool

    def compose(self) -> Score:
        """Returns the song as notes."""
        return compose(self.seed, artist=self.artist, genre=self.genre, seconds=self.seconds, sung=self.sung)


def plan_album(config: AlbumConfig) -> list[Track]:
    """Returns the plans of an album's songs; song i does not depend on the number of songs."""
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


def render_score(score: Score, config: AlbumConfig) -> NDArray[np.float32]:
    """Returns a song's audio at the album's sample rate, float32 [time, channels]."""
    return render(score, config.sample_rate, channels=config.channels)
