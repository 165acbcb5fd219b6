"""Clips of sound to learn from: the same for the same seed and number, on whichever worker.

Legend: T samples of time, C channels.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from jukebox_core.audio.files import audio_seconds, read_channels
from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from jukebox_core.datasets.songs import Song


class Clip(NamedTuple):
    """A piece of a song; times in samples at the dataset's rate."""

    audio_TC: Tensor  # float32 in [-1, 1]
    song: int  # its place among the songs that the dataset was given
    start: int  # where in the song the piece begins
    total: int  # the song's length


class AudioClips(Dataset[Clip]):
    """Clips of equal length, as many as the songs hold side by side; songs shorter than a clip are left out.

    Items are numbered without end: item ``i`` is a clip of epoch ``i // len(dataset)``, and with ``augment`` the same
    place is heard elsewhere in every epoch: shifted by up to a clip, its channels blended anew.
    """

    def __init__(
        self, songs: Sequence[Song], *, seconds: float, sample_rate: int, channels: int, seed: int, augment: bool
    ) -> None:
        """Reads how long the songs are, not the songs.

        Args:
            songs: recordings that can be read.
            seconds: length of a clip; rounded down to whole samples.
            sample_rate: of the clips, in Hz; recordings are resampled.
            channels: 1 (mono, channels averaged) or 2.
            seed: of the augmentation.
            augment: whether clips are shifted in time and their two channels blended at random.

        Raises:
            ConfigError: a value out of range, or no song as long as a clip.
            AudioError: a recording that cannot be opened.
        """
        if channels not in (1, 2):
            raise ConfigError(f"channels is {channels}; choose 1 (mono) or 2 (stereo)")
        self._rate, self._channels, self._seed, self._augment = sample_rate, channels, seed, augment
        self._frames = int(seconds * sample_rate + 1e-6)
        if self._frames < 1:
            raise ConfigError(f"clips of {seconds} s have no sample at {sample_rate} Hz; make them longer")
        self._songs = songs
        self._totals = [int(audio_seconds(song.path) * sample_rate) for song in songs]
        counts = [total // self._frames for total in self._totals]
        self._ends = list(accumulate(counts))
        self.left_out = tuple(song for song, count in zip(songs, counts, strict=True) if not count)
        if not sum(counts):
            longest = max(self._totals, default=0) / sample_rate
            raise ConfigError(
                f"none of {len(songs)} songs is as long as a clip of {seconds:g} s, the longest lasts {longest:.2f} s; "
                "give longer music or make the clips shorter"
            )

    def __len__(self) -> int:
        """How many clips an epoch has."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> Clip:
        """Returns item ``index``, from 0 on without end; AudioError if its recording cannot be read."""
        slot = index % len(self)
        song = bisect_right(self._ends, slot)
        place = slot - (self._ends[song - 1] if song else 0)
        total = self._totals[song]
        rng = np.random.default_rng((self._seed, index))
        last = total - self._frames
        start = place * self._frames
        if self._augment:
            start = int(rng.integers(max(0, start - self._frames // 2), min(last, start + self._frames // 2) + 1))
        heard_TC = read_channels(
            self._songs[song].path,
            rate=self._rate,
            # Half a sample more than whole ones, so that rounding never costs one.
            seconds=(self._frames + 0.5) / self._rate,
            offset=(start + 0.5) / self._rate,
        )
        audio_TC = blend(heard_TC, self._channels, rng.random() if self._augment else None)
        return Clip(torch.from_numpy(audio_TC), song, start, total)


def blend(heard_TC: NDArray[np.float32], channels: int, share: float | None) -> NDArray[np.float32]:
    """Returns the sound in ``channels`` channels.

    Args:
        heard_TC: one channel or more; of more than two, the first two count once a share is given.
        channels: 1 or 2.
        share: how much of the left channel the left side becomes, 0 to 1: 1 leaves the sides, 0 swaps them. None:
            stereo as it is, mono the mean of all channels.
    """
    if heard_TC.shape[1] == 1:
        return np.repeat(heard_TC, channels, axis=1)
    if channels == 1 and share is None:
        mean_TC: NDArray[np.float32] = heard_TC.mean(axis=1, keepdims=True, dtype=np.float32)
        return mean_TC
    left_T, right_T = heard_TC[:, 0], heard_TC[:, 1]
    part = np.float32(1 if share is None else share)
    sides = (part * left_T + (1 - part) * right_T, (1 - part) * left_T + part * right_T)
    return np.ascontiguousarray(np.stack(sides[:channels], axis=1))
