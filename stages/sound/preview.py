"""Audio previews of unfinished songs, decoded incrementally as windows are sealed.

Legend: *reach* is the decoder's receptive field, in tokens on either side. Audio nearer than that to the last sealed
token is decoded again when more tokens are sealed; audio before it is final and cached in a file of 16-bit samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.audio.files import write_audio
from jukebox_core.store.spans import read_spans
from jukebox_core.store.spooled import open_store
from stages.sound.decode import decode_codes

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.store.store import TokenStore
    from jukebox_core.tokens.graph import Take, Track
    from stages.resident import CodecSpec

_FULL_SCALE = 2**15 - 1


class Preview:
    """The preview of one song: each moment has the audio of the lowest level that is sealed so far."""

    def __init__(self, codec: CodecSpec, store: str, path: Path) -> None:
        """Prepares a preview in the audio file `path`; decoded audio is cached in files beside it."""
        self._config, self._store, self._path = codec.config, store, path
        self._levels = [_Decoded(codec, level, path) for level in range(len(codec.config.hops))]

    def write(self, take: Take, sealed: Sequence[int], partial: Collection[str] = ()) -> float:
        """Writes the audio file atomically, as far as any level is sealed; returns its length in seconds.

        Args:
            take: the final tracks of the song, bottom level first.
            sealed: length of the prefix of each that is there, in tokens.
            partial: windows of these that are not sealed, but whose tokens are stored as far as that.

        Raises:
            DamagedError: a stored window is damaged; it was set aside.
        """
        store, hops, rate = open_store(self._store), self._config.hops, self._config.sample_rate
        pieces, end = [np.empty(0, np.float32)], 0
        for level, (track, stop) in enumerate(zip(take, sealed, strict=True)):
            start = -(-end // hops[level])  # lower levels end on whole windows, and those on whole tokens above
            if stop > start:
                pieces.append(self._levels[level].audio(store, track, start, stop, partial))
                end = stop * hops[level]
        write_audio(self._path, np.concatenate(pieces), rate)
        return end / rate


class _Decoded:
    """The decoded audio of one level of one song, from one of its tokens on."""

    def __init__(self, codec: CodecSpec, level: int, path: Path) -> None:
        self._codec, self._level, self._hop = codec, level, codec.config.hops[level]
        self._cache = path.with_name(f".{path.stem}_level_{level}.pcm")
        self._first = self._final = 0  # tokens [first, final) have their audio in the cache

    def audio(
        self, store: TokenStore, track: Track, start: int, stop: int, partial: Collection[str]
    ) -> NDArray[np.float32]:
        """Returns the audio of tokens ``[start, stop)`` of the track, float32 [time], clipped to [-1, 1]."""
        if not self._first <= start <= self._final or not self._cache.is_file():
            self._first = self._final = start
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            self._cache.write_bytes(b"")
        reach = self._codec.open().decode_reach(self._level)
        left = max(0, self._final - reach)
        tokens = read_spans(store, track.slice(left, stop), partial=partial)
        new = decode_codes(self._codec, self._level, np.maximum(tokens, 0))  # those of a partial are as they were drawn
        new = np.clip(new[(self._final - left) * self._hop :], -1, 1)
        cached = np.fromfile(self._cache, "<i2", offset=2 * (start - self._first) * self._hop)
        count = max(0, (stop if stop == len(track) else stop - reach) - self._final)
        with self._cache.open("ab") as file:
            file.write((new[: count * self._hop] * _FULL_SCALE).round().astype("<i2").tobytes())
        self._final += count
        return np.concatenate([cached.astype(np.float32) / _FULL_SCALE, new])
