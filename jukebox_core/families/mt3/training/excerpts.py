"""Excerpts of songs with their targets: a pure function of seed and index, on any worker.

Legend: S segments, F frames, M mels, T samples, K kinds of what a frame holds, B segments of a batch, N ids.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from jukebox_core.errors import AudioError, NotesError
from jukebox_core.families.mt3.config import PAD_ID
from jukebox_core.families.mt3.events.encoding import trim_overlaps
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.model.front_end import FrontEnd
from jukebox_core.families.mt3.training.targets import frame_kinds, mel_front_end, moved, segment_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jukebox_core.families.mt3.config import MT3Network
    from jukebox_core.families.mt3.training.config import AugmentConfig
    from jukebox_core.families.mt3.training.songs import Songs
    from jukebox_core.notes.note import Note

IGNORED = -100  # label of padding
_FROM_START = 0.1  # share of the excerpts that begin with their song
_MIX_DB = 6.0  # the second song of a mixture is up to this much louder or quieter
_NOISE_RANGE_DB = 30.0  # noise is between its highest level and this much lower


class Excerpt(NamedTuple):
    """Consecutive segments of a song."""

    frames_SFM: Tensor  # float32, log-mels
    ids: list[list[int]]  # of each segment, with the end of sequence
    before: list[list[int]]  # ids of the segment before each segment
    kinds_SFK: Tensor  # bool


class Batch(NamedTuple):
    """The segments of several excerpts."""

    frames_BFM: Tensor  # float32
    labels_BN: Tensor  # int64, `IGNORED` after the end of sequence
    before_BN: Tensor  # int64, padded to the model's limit of tokens; no columns without a memory
    kinds_BFK: Tensor  # bool


class Excerpts(Dataset[Excerpt]):
    """Excerpts of equal length. Indices are unbounded: item ``i`` is an excerpt of epoch ``i // len(dataset)``.

    Every epoch has as many excerpts of a song as it has lengths of one, with random starts; without augmentation the
    starts are even. The last excerpt of a song may go beyond its end, as its last segment does in a transcription.
    """

    def __init__(
        self, songs: Songs, network: MT3Network, *, segments: int, seed: int, augment: AugmentConfig | None
    ) -> None:
        """Takes the songs; reads none yet.

        Args:
            songs: music with known notes.
            network: sizes of the model.
            segments: of an excerpt.
            seed: of starts and augmentation.
            augment: random changes; None: none, and even starts.
        """
        self._songs, self._network, self._segments = songs, network, segments
        self._seed, self._augment = seed, augment
        self._front_end = FrontEnd(mel_front_end(network))
        self._seconds = segments * network.front_end.segment_samples / network.front_end.sample_rate
        self._ends = list(accumulate(max(1, round(each / self._seconds)) for each in songs.seconds))

    def __len__(self) -> int:
        """Number of excerpts of an epoch."""
        return self._ends[-1]

    @torch.no_grad()
    def __getitem__(self, index: int) -> Excerpt:
        """Returns item ``index`` >= 0; in place of a song that cannot be read, an excerpt of the next one.

        Raises:
            AudioError: too many recordings cannot be read.
            NotesError: too many MIDI files cannot be read.
        """
        epoch, slot = divmod(index, len(self))
        rng = np.random.default_rng((self._seed, index))
        while True:
            song = bisect_right(self._ends, slot)
            try:
                audio_T, notes = self._excerpt(epoch, song, slot, rng)
                break
            except (AudioError, NotesError) as error:
                self._songs.skip(song, error)  # raises when none is left
            slot = self._ends[song] % len(self)
        frames_SFM = self._front_end(torch.from_numpy(audio_T), 0, self._segments)
        ids = segment_ids(self._network, notes, self._segments)
        before = self._before(notes) + ids[:-1] if self._network.memory else []
        kinds_SFK = torch.from_numpy(frame_kinds(self._network, notes, self._segments))
        return Excerpt(frames_SFM, ids, before, kinds_SFK)

    def _excerpt(
        self, epoch: int, song: int, slot: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], list[Note]]:
        augment = self._augment
        if augment is None:
            start = (slot - (self._ends[song - 1] if song else 0)) * self._seconds
            return self._cut(epoch, song, start, 0)
        # 1) one song, played at another speed
        semitones = 0
        if augment.pitch_semitones and rng.random() < augment.pitch_share:
            semitones = int(rng.integers(-augment.pitch_semitones, augment.pitch_semitones + 1))
        audio_T, notes = self._cut(epoch, song, self._start(song, rng), semitones)
        # 2) another one added
        if rng.random() < augment.mix_share:
            other = int(rng.integers(len(self._songs.seconds)))
            other_T, other_notes = self._cut(epoch, other, self._start(other, rng), 0)
            longer, shorter = (audio_T, other_T) if len(audio_T) >= len(other_T) else (other_T, audio_T)
            gain = np.float32(10 ** (rng.uniform(-_MIX_DB, _MIX_DB) / 20))
            audio_T = longer.copy()
            audio_T[: len(shorter)] += gain * shorter
            notes = trim_overlaps([*notes, *other_notes])
        # 3) level and noise
        gain = np.float32(10 ** (rng.uniform(-augment.gain_db, augment.gain_db) / 20))
        if augment.noise_db is not None and rng.random() < augment.noise_share:
            level = float(np.sqrt(np.mean(np.square(audio_T, dtype=np.float64)))) if len(audio_T) else 0.0
            level *= 10 ** (-(augment.noise_db + rng.uniform(0, _NOISE_RANGE_DB)) / 20)
            audio_T = audio_T + np.float32(level) * rng.standard_normal(len(audio_T), dtype=np.float32)
        return gain * audio_T, notes

    def _before(self, notes: Sequence[Note]) -> list[list[int]]:
        """Returns the ids of the segment before the first one."""
        size = self._seconds / self._segments
        later = moved(notes, -size, size, 1.0, 0)
        return segment_ids(self._network, later, 1)

    def _start(self, song: int, rng: np.random.Generator) -> float:
        total = self._songs.seconds[song]
        if rng.random() < _FROM_START:
            return 0.0
        return float(rng.uniform(0, max(total - self._seconds / 2, 0.0)))

    def _cut(self, epoch: int, song: int, start: float, semitones: int) -> tuple[NDArray[np.float32], list[Note]]:
        """Returns the audio of an excerpt at the model's rate, and its notes with times from its start."""
        rate = self._network.front_end.sample_rate
        slower = round(rate / 2 ** (semitones / 12))  # fewer samples for the same music: it is faster
        speed, samples = rate / slower, round(self._seconds * rate)
        piece = self._songs.piece(epoch, song, start=start, seconds=(samples + 0.5) / slower, rate=slower)
        return piece.audio_T[:samples], moved(piece.notes, start, self._seconds, speed, semitones)


class Collate:
    """Makes a batch of excerpts; segments with more ids than the model's limit are cut, without an end of sequence."""

    def __init__(self, network: MT3Network) -> None:
        self._limit = network.transformer.max_tokens - 1
        known = vocabulary_of(network.vocabulary)
        self._nothing = known.to_ids([known.tie])
        self._memory = network.transformer.max_tokens if network.memory and network.memory.length else 0

    def __call__(self, items: Sequence[Excerpt]) -> Batch:
        """Returns the segments of all excerpts, in order."""
        ids = [each[: self._limit] for item in items for each in item.ids]
        longest = max(map(len, ids))
        labels = [[*each, *[IGNORED] * (longest - len(each))] for each in ids]
        before = [each[: self._memory] for item in items for each in item.before]
        memory = [[*each, *[PAD_ID] * (self._memory - len(each))] for each in before]
        return Batch(
            torch.cat([item.frames_SFM for item in items]),
            torch.tensor(labels),
            torch.tensor(memory, dtype=torch.int64).reshape(len(memory), -1)
            if memory
            else torch.zeros(0, 0, dtype=torch.int64),
            torch.cat([item.kinds_SFK for item in items]),
        )
