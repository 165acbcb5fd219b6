"""Training windows of codes, from a folder of encoded songs.

The folder holds one codes file per song and, written last, the index ``songs.json``: the songs, and the model that
encoded them.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.paths import user_path
from jukebox_core.base.records import read_json
from jukebox_core.base.structuring import build, to_plain
from jukebox_core.datasets.songs import split_of
from jukebox_core.datasets.unreadable import UnreadableSongs
from jukebox_core.errors import ConfigError, RecordError, StoreError
from jukebox_core.tokens.codes import read_codes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from jukebox_core.datasets.songs import Split

INDEX_NAME = "songs.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSong:
    """An entry of the index: one song of a folder of codes."""

    name: str  # path of the recording, relative to the folder of audio
    codes: str  # path of its codes file, relative to the folder of codes
    samples: int  # length of the encoded audio, in samples
    artist: str
    genre: str
    lyrics: str


@dataclass(frozen=True, slots=True)
class CodesIndex:
    """The index of a folder of codes."""

    about: Mapping[str, Any]  # as in codes files: model, vqvae_sha256, sample_rate, hops
    songs: Sequence[EncodedSong]


def write_index(folder: Path, index: CodesIndex) -> None:
    """Writes the index of a folder of codes, atomically."""
    text = json.dumps({"about": dict(index.about), "songs": [to_plain(song) for song in index.songs]}, indent=1)
    with atomic_write(folder / INDEX_NAME) as file:
        file.write(text.encode())


def read_index(folder: str | Path) -> CodesIndex:
    """Returns the index of a folder of codes.

    Raises:
        StoreError: the folder does not exist, or its index is missing or malformed.
    """
    path = user_path(folder) / INDEX_NAME
    try:
        found = read_json(path)
        return CodesIndex(dict(found["about"]), tuple(build(EncodedSong, song) for song in found["songs"]))
    except FileNotFoundError:
        raise StoreError(
            f"{path} does not exist, so this is no finished folder of codes; `jukebox dataset` makes one"
        ) from None
    except (RecordError, ConfigError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is no index of codes ({error}); make it again with `jukebox dataset`") from None


class CodeWindow(NamedTuple):
    """A window of one level's codes with the metadata of its song; times in tokens of that level.

    Codes that are a grid have all their codebooks, [codebooks, time].
    """

    codes_T: Tensor  # int64, a full context
    upper_T: Tensor | None  # int64, codes of the level above for the same time; None at the top
    artist: str
    genre: str
    lyrics: str
    start_tokens: int
    total_tokens: int  # the song's length


class CodeWindows(Dataset[CodeWindow]):
    """Windows of one level, without overlap; songs shorter than a window are left out.

    Indices are unbounded: item ``i`` is a window of epoch ``i // len(dataset)``. With ``augment`` every epoch shifts
    the windows at random by up to half their length either way. A song's codes are read once and cached, two bytes per
    token.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        level: int,
        context: int,
        split: Split = "all",
        validation: float = 0.0,
        seed: int = 0,
        augment: bool = False,
        first_share: float = 0.0,
        most_unreadable: float = 0.1,
    ) -> None:
        """Reads the folder's index, not its codes.

        Args:
            folder: written by `jukebox dataset`.
            level: of the codes; 0 is the bottom.
            context: tokens of a window.
            split: which songs.
            validation: share of the songs that is held out; see `songs.select_split`.
            seed: of the shifts.
            augment: whether windows are shifted at random.
            first_share: of the windows, chosen at random, that are a song's first instead.
            most_unreadable: share of the songs whose codes may become unreadable while windows are read.

        Raises:
            StoreError: the folder has no complete index.
            ConfigError: it lacks the level, or no song is as long as a window.
        """
        self._folder = user_path(folder)
        index = read_index(folder)
        hops: list[int] = index.about["hops"]
        if not 0 <= level < len(hops):
            raise ConfigError(f"level is {level}, but {self._folder} holds codes of levels 0 to {len(hops) - 1}")
        self.about = index.about
        self._level, self._context, self._seed, self._augment = level, context, seed, augment
        self._first_share = first_share
        self._ratio = hops[level + 1] // hops[level] if level + 1 < len(hops) else 1
        self._has_upper = level + 1 < len(hops)
        if context % self._ratio:
            raise ConfigError(
                f"context {context} is not a multiple of the {self._ratio} tokens below one of the level above"
            )
        self.songs = tuple(song for song in index.songs if split in ("all", split_of(song.name, validation)))
        # Multiples of an upper token, so that every window has all its upper codes.
        self._totals: list[int] = [song.samples // hops[level] // self._ratio * self._ratio for song in self.songs]
        counts = [total // context for total in self._totals]
        self._ends: list[int] = list(accumulate(counts))
        self.left_out = tuple(song for song, count in zip(self.songs, counts, strict=True) if not count)
        self._unreadable = UnreadableSongs([song.name for song in self.songs], most_unreadable)
        self._cache: dict[tuple[int, int], NDArray[np.int16]] = {}
        if not sum(counts):
            longest = max(self._totals, default=0)
            raise ConfigError(
                f"none of {len(self.songs)} {split} songs in {self._folder} has a full context of {context} tokens at "
                f"level {level}, the longest has {longest}; give longer music, more of it, or a smaller context"
            )

    def __len__(self) -> int:
        """Number of windows of an epoch."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> CodeWindow:
        """Returns item ``index`` >= 0; in place of a song whose codes cannot be read, a window of the next one.

        Raises:
            StoreError: the codes of too many songs cannot be read.
        """
        slot = index % len(self)
        while True:
            number = bisect_right(self._ends, slot)
            try:
                return self._window(index, slot, number)
            except StoreError as error:
                self._unreadable.skip(number, error)  # raises when none is left
            slot = self._ends[number] % len(self)

    def _window(self, index: int, slot: int, number: int) -> CodeWindow:
        place = slot - (self._ends[number - 1] if number else 0)
        song, total = self.songs[number], self._totals[number]
        start = place * self._context
        if self._augment:
            rng = np.random.default_rng((self._seed, index))
            half = self._context // 2
            start = int(rng.integers(max(0, start - half), min(total - self._context, start + half) + 1))
            start = start // self._ratio * self._ratio
        if self._first_share and np.random.default_rng((self._seed, index, 1)).random() < self._first_share:
            start = 0
        codes_T = self._slice(number, self._level, start, start + self._context)
        upper_T = None
        if self._has_upper:
            first, stop = start // self._ratio, (start + self._context) // self._ratio
            upper_T = self._slice(number, self._level + 1, first, stop)
        return CodeWindow(codes_T, upper_T, song.artist, song.genre, song.lyrics, start, total)

    def _slice(self, number: int, level: int, start: int, stop: int) -> Tensor:
        if (number, level) not in self._cache:
            path = self._folder / self.songs[number].codes
            found = read_codes(path)
            if any(found.about.get(name) != value for name, value in self.about.items()):
                raise StoreError(f"{path} was encoded by another model than {INDEX_NAME} says; encode the folder again")
            for each in (level, level + 1):
                if each in found.levels and each <= self._level + 1:
                    self._cache[number, each] = found.levels[each].astype(np.int16)
        return torch.from_numpy(self._cache[number, level][..., start:stop].astype(np.int64))
