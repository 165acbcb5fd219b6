"""In any order of windows, the preview of a song equals the full decode, level by level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.audio.files import read_audio
from jukebox_core.base.hashing import digest
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.store.spans import read_spans
from jukebox_core.store.store import TokenStore
from jukebox_core.tokens.graph import Take, Track
from pipelines.execution.previews import lowest_level
from stages import resident
from stages.fetch import fetch_weights
from stages.resident import CodecSpec
from stages.sound.decode import decode_codes
from stages.sound.preview import Preview
from tests.helpers.models.own_model import write_own_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.families.jukebox.config import JukeboxConfig

CPU = HardwareConfig(device="cpu", dtype="float32", threads=1)
TOP = 400  # tokens of the top level
PARTS = 8  # windows of each level


class Song:
    """A song with random tokens, and the full decode of each level."""

    def __init__(self, folder: Path) -> None:
        model = load_preset(write_own_model(folder / "model"))
        self.config: JukeboxConfig = model.config
        weights = fetch_weights(model, WeightsConfig(folder=str(folder / "w")), ("vqvae",))
        self.codec = CodecSpec.of(model, weights["vqvae"], CPU)
        self.store, random = str(folder / "store"), np.random.default_rng(0)
        tracks, self.sounds = [], []
        for level, hop in enumerate(self.config.vqvae.hops):
            codes = random.integers(0, self.config.vqvae.bins, TOP * self.config.vqvae.hops[-1] // hop)
            track = Track()
            for part in np.split(codes, PARTS):
                causes = {"level": level, "start": len(track)}
                TokenStore(self.store).seal(digest(causes), part, first=len(track), causes=causes)
                track = track.extend(digest(causes), len(track) + len(part))
            tracks.append(track)
            self.sounds.append(decode_codes(self.codec, level, codes.astype(np.int32)))
        self.take: Take = tuple(tracks)
        self.path = folder / "audio" / "preview" / "sample_0.wav"
        self.preview = Preview(self.codec, self.store, self.path)

    def heard(self, *parts: int) -> NDArray[np.float32]:
        """The preview when so many windows of each level are sealed, bottom level first."""
        sealed = [len(track) * part // PARTS for track, part in zip(self.take, parts, strict=True)]
        seconds = self.preview.write(self.take, sealed)
        sound = read_audio(self.path, rate=self.config.vqvae.sample_rate)
        assert seconds == pytest.approx(len(sound) / self.config.vqvae.sample_rate)
        return sound

    def expected(self, *parts: int) -> list[tuple[int, int, int]]:
        """Which level is heard from where to where, in audio samples."""
        whole, end, pieces = len(self.sounds[0]), 0, []
        for level, part in enumerate(parts):
            stop = whole * part // PARTS
            if stop > end:
                pieces.append((level, end, stop))
                end = stop
        return pieces


@pytest.mark.parametrize(
    "growth",
    [
        [(0, 0, 1), (0, 0, 4), (0, 0, 8), (0, 3, 8), (0, 8, 8), (2, 8, 8), (8, 8, 8)],  # by level
        [(0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 5), (4, 5, 5), (5, 5, 8), (8, 8, 8)],  # wave
        [(0, 1, 8), (3, 3, 8), (3, 5, 8)],  # the lower level overtakes what was decoded of the one above
        [(1, 0, 0), (2, 0, 0), (3, 0, 0), (8, 0, 0)],
    ],
)
def test_a_preview_grows_into_the_full_decode(growth: list[tuple[int, int, int]], tmp_path: Path) -> None:
    song = Song(tmp_path)
    halo = 2 * song.config.vqvae.hops[-1] * 16  # the last sealed tokens are decoded as if silence followed
    for parts in growth:
        sound, pieces = song.heard(*parts), song.expected(*parts)
        assert len(sound) == pieces[-1][2]
        for level, start, stop in pieces:
            settled = stop if stop == len(song.sounds[0]) else stop - halo
            whole = np.clip(song.sounds[level], -1, 1)
            np.testing.assert_allclose(sound[start:settled], whole[start:settled], atol=2e-4)
    resident.release()


def test_the_level_heard_first_is_the_lowest_that_is_there() -> None:
    assert [lowest_level(sealed) for sealed in ([1, 2, 3], [0, 3, 5], [0, 0, 1])] == [0, 1, 2]


def test_a_preview_has_what_is_stored_of_a_window_that_is_not_full(tmp_path: Path) -> None:
    song = Song(tmp_path)
    whole, key = TOP // PARTS, "f" * 64
    top, store = song.take[-1].cut(2 * whole), TokenStore(song.store)
    drawn = song.take[-1].slice(2 * whole, 3 * whole)
    codes = store.read(drawn[0].key).tokens.copy()
    codes[3] = -1  # as drawn: the sealed window has it clamped
    top = top.extend(key, 3 * whole)
    take = (Track(), Track(), top)
    for count, unsealed in ((0, True), (20, True), (whole, False)):
        if unsealed and count:
            store.write_partial(key, codes[:count], first=2 * whole, causes={})
        elif count:
            store.seal(key, np.maximum(codes, 0), first=2 * whole, causes={})
        partial = {key: 2 * whole + count} if unsealed and count else {}
        reach = top.reach({key} if unsealed else (), partial)
        assert reach == 2 * whole + count
        song.preview.write(take, [0, 0, reach], partial)
        sound = read_audio(song.path, rate=song.config.vqvae.sample_rate)
        expected = decode_codes(
            song.codec, 2, np.concatenate([read_spans(store, top.cut(2 * whole)), np.maximum(codes[:count], 0)])
        )
        assert sound == pytest.approx(np.clip(expected, -1, 1), abs=2e-4)
