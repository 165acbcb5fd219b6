"""Training clips of audio: a pure function of seed and index, on any worker.

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
from jukebox_core.datasets.unreadable import UnreadableSongs
from jukebox_core.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from jukebox_core.datasets.songs import Song


class Clip(NamedTuple):
    """An excerpt of a song; times in samples at the dataset's rate."""

    audio_TC: Tensor  # float32 in [-1, 1]
    song: int  # index of the song in the dataset
    start: int  # position in the song
    total: int  # the song's length


class AudioClips(Dataset[Clip]):
    """Clips of equal length, without overlap; songs shorter than a clip are left out.

    Indices are unbounded: item ``i`` is a clip of epoch ``i // len(dataset)``. With ``augment`` every epoch shifts the
    clips at random by up to half their length either way, and blends their channels at random.
    """

    def __init__(
        self,
        songs: Sequence[Song],
        *,
        seconds: float,
        sample_rate: int,
        channels: int,
        seed: int,
        augment: bool,
        lengths: Mapping[str, float] | None = None,
        most_unreadable: float = 0.1,
    ) -> None:
        """Takes the durations of the songs, and reads no audio yet.

        Args:
            songs: readable recordings.
            seconds: length of a clip; rounded down to whole samples.
            sample_rate: of the clips, in Hz; recordings are resampled.
            channels: 1 (mono, channels averaged) or 2.
            seed: of the augmentation.
            augment: whether clips are shifted in time and their two channels blended at random.
            lengths: measured durations in seconds, by the songs' names; None: they are counted now.
            most_unreadable: share of the songs that may become unreadable while clips are read.

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
        found = [audio_seconds(song.path) if lengths is None else lengths[song.name] for song in songs]
        self._totals = [int(each * sample_rate) for each in found]
        self._unreadable = UnreadableSongs([song.name for song in songs], most_unreadable)
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
        """Number of clips of an epoch."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> Clip:
        """Returns item ``index`` >= 0; in place of a recording that cannot be read, a clip of the next one.

        Raises:
            AudioError: too many recordings cannot be read.
        """
        slot = index % len(self)
        while True:
            song = bisect_right(self._ends, slot)
            try:
                return self._clip(index, slot, song)
            except AudioError as error:
                self._unreadable.skip(song, error)  # raises when none is left
            slot = self._ends[song] % len(self)

    def _clip(self, index: int, slot: int, song: int) -> Clip:
        place = slot - (self._ends[song - 1] if song else 0)
        total = self._totals[song]
        rng = np.random.default_rng((self._seed, index))
        last = total - self._frames
        start = place * self._frames
        if self._augment:
            start = int(rng.integers(max(0, start - self._frames // 2), min(last, start + self._frames // 2) + 1))
        source_TC = read_channels(
            self._songs[song].path,
            rate=self._rate,
            # Half a sample more, so that rounding never loses one.
            seconds=(self._frames + 0.5) / self._rate,
            offset=(start + 0.5) / self._rate,
        )
        audio_TC = blend(source_TC, self._channels, rng.random() if self._augment else None)
        return Clip(torch.from_numpy(audio_TC), song, start, total)


def blend(source_TC: NDArray[np.float32], channels: int, share: float | None) -> NDArray[np.float32]:
    """Returns the audio mixed to ``channels`` channels, float32 [T, channels].

    Args:
        source_TC: one channel or more; with a share, channels after the second are ignored.
        channels: 1 or 2.
        share: weight of the left channel in the left output, 0 to 1: 1 keeps the sides, 0 swaps them. None: stereo
            is unchanged, mono is the mean of all channels.
    """
    if source_TC.shape[1] == 1:
        return np.repeat(source_TC, channels, axis=1)
    if channels == 1 and share is None:
        mean_TC: NDArray[np.float32] = source_TC.mean(axis=1, keepdims=True, dtype=np.float32)
        return mean_TC
    left_T, right_T = source_TC[:, 0], source_TC[:, 1]
    part = np.float32(1 if share is None else share)
    sides = (part * left_T + (1 - part) * right_T, (1 - part) * left_T + part * right_T)
    return np.ascontiguousarray(np.stack(sides[:channels], axis=1))
