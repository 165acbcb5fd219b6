"""Sound of a song that is not finished yet: as windows arrive, only what is new is decoded.

Legend: a token's *reach* is how many tokens beyond its own its sound depends on. What lies nearer than that to the last
token that is there is decoded anew when more tokens come; what lies before is kept, in a file of 16-bit samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.audio.files import write_audio
from jukebox_core.store.spans import read_spans
from jukebox_core.store.spooled import open_store
from stages.sound.decode import decode_codes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.store.store import TokenStore
    from jukebox_core.tokens.graph import Take, Track
    from stages.resident import CodecSpec

_FULL_SCALE = 2**15 - 1


class Preview:
    """The preview of one song: at each moment the sound of the lowest level that is there."""

    def __init__(self, codec: CodecSpec, store: str, path: Path) -> None:
        """Takes the codec, and the audio file to write; decoded pieces lie beside that while it grows."""
        self._config, self._store, self._path = codec.config, store, path
        self._levels = [_Decoded(codec, level, path) for level in range(len(codec.config.hops))]

    def write(self, take: Take, sealed: Sequence[int]) -> float:
        """Writes the file, whole or not at all: as far as any level reaches. Returns its length in seconds.

        Args:
            take: the tracks that the song will consist of, bottom level first.
            sealed: how many tokens of each are there.

        Raises:
            DamagedError: a stored window is damaged; it was set aside.
        """
        store, hops, rate = open_store(self._store), self._config.hops, self._config.sample_rate
        pieces, end = [np.empty(0, np.float32)], 0
        for level, (track, there) in enumerate(zip(take, sealed, strict=True)):
            begin = -(-end // hops[level])  # lower levels end on whole windows, and those on whole tokens above
            if there > begin:
                pieces.append(self._levels[level].sound(store, track, begin, there))
                end = there * hops[level]
        write_audio(self._path, np.concatenate(pieces), rate)
        return end / rate


class _Decoded:
    """The sound of one level of one song, from one of its tokens on."""

    def __init__(self, codec: CodecSpec, level: int, path: Path) -> None:
        self._codec, self._level, self._hop = codec, level, codec.config.hops[level]
        self._kept = path.with_name(f".{path.stem}_level_{level}.pcm")
        self._first = self._stop = 0  # tokens whose sound is kept

    def sound(self, store: TokenStore, track: Track, begin: int, there: int) -> NDArray[np.float32]:
        """Returns the sound of tokens ``[begin, there)`` of the track, float32 [time], clipped to [-1, 1]."""
        if not self._first <= begin <= self._stop or not self._kept.is_file():
            self._first = self._stop = begin
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            self._kept.write_bytes(b"")
        reach = self._codec.open().decode_reach(self._level)
        left = max(0, self._stop - reach)
        tokens = read_spans(store, track.slice(left, there))
        fresh = decode_codes(self._codec, self._level, tokens)
        fresh = np.clip(fresh[(self._stop - left) * self._hop :], -1, 1)
        kept = np.fromfile(self._kept, "<i2", offset=2 * (begin - self._first) * self._hop)
        settled = max(0, (there if there == len(track) else there - reach) - self._stop)
        with self._kept.open("ab") as file:
            file.write((fresh[: settled * self._hop] * _FULL_SCALE).round().astype("<i2").tobytes())
        self._stop += settled
        return np.concatenate([kept.astype(np.float32) / _FULL_SCALE, fresh])
