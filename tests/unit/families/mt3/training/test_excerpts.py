"""Excerpts of songs: audio, targets and augmentation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from jukebox_core.composer.config import AlbumConfig
from jukebox_core.errors import AudioError
from jukebox_core.families.mt3.config import (
    FrontEndConfig,
    MemoryConfig,
    MT3Network,
    TransformerConfig,
    VocabularyConfig,
)
from jukebox_core.families.mt3.events.decoding import Segment, decode
from jukebox_core.families.mt3.events.encoding import encode
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.model.front_end import FrontEnd
from jukebox_core.families.mt3.training.config import AugmentConfig
from jukebox_core.families.mt3.training.excerpts import IGNORED, Collate, Excerpts
from jukebox_core.families.mt3.training.songs import ComposedSongs, Piece
from jukebox_core.families.mt3.training.targets import (
    DRUM,
    END,
    ENTRY,
    ONSET,
    PROGRAM,
    SOUNDING,
    frame_kinds,
    moved,
    segment_ids,
)
from jukebox_core.notes.note import Note

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = 8000
NETWORK = MT3Network(
    front_end=FrontEndConfig(sample_rate=RATE, hop=200, fft=1024, mels=32, high_hz=3800.0, segment_frames=40),
    vocabulary=VocabularyConfig(steps_per_second=40, max_shift_steps=40),
    transformer=TransformerConfig(
        width=16, heads=2, head_width=8, mlp_width=16, encoder_depth=1, decoder_depth=1, embeddings=448, max_tokens=32
    ),
)
NOTES = [
    Note(0.25, 1.75, 60, 100, 0),
    Note(1.0, 1.5, 64, 100, 24),
    Note(1.2, 1.21, 36, 100, 0, is_drum=True),
    Note(2.5, 3.5, 67, 100, 0),
]


class Tones:
    """One song of four seconds: `NOTES` as sines."""

    seconds: Sequence[float] = (4.0,)

    def piece(self, epoch: int, song: int, *, start: float, seconds: float, rate: int) -> Piece:
        at = start + np.arange(min(round(seconds * rate), int((4.0 - start) * rate))) / rate
        audio = np.zeros(len(at))
        for note in NOTES:
            inside = (at >= note.start) & (at < note.end)
            audio += 0.1 * inside * np.sin(2 * np.pi * 440 * 2 ** ((note.pitch - 69) / 12) * at)
        return Piece(audio.astype(np.float32), NOTES)

    def skip(self, song: int, error: Exception) -> None:
        raise error


def dataset(**augment: float) -> Excerpts:
    made = AugmentConfig(**augment) if augment else None  # type: ignore[arg-type]
    return Excerpts(Tones(), NETWORK, segments=2, seed=5, augment=made)


def test_without_augmentation_excerpts_are_the_segments_of_the_song() -> None:
    audio = torch.from_numpy(Tones().piece(0, 0, start=0, seconds=4, rate=RATE).audio_T)
    whole = FrontEnd(NETWORK.front_end)(audio, 0, 4)
    indices = encode(NETWORK.vocabulary, NETWORK.front_end, NOTES, 160)
    ids = [vocabulary_of(NETWORK.vocabulary).to_ids(each) for each in indices]
    data = dataset()
    assert len(data) == 2
    assert [*data[0].ids, *data[1].ids] == ids
    torch.testing.assert_close(torch.cat([data[0].frames_SFM, data[1].frames_SFM]), whole, atol=1e-4, rtol=1e-4)


def test_notes_of_an_excerpt_from_the_middle_are_decoded_at_their_places() -> None:
    start = 1.1
    segments = segment_ids(NETWORK, moved(NOTES, start, 2.0, 1.0, 0), 2)
    known = vocabulary_of(NETWORK.vocabulary)
    decoded = decode(
        NETWORK.vocabulary, [Segment(float(at), known.to_indices(each)) for at, each in enumerate(segments)]
    )
    found = {(note.pitch, note.is_drum): note.start for note in decoded.notes}
    # Notes that sound already are ties of notes unknown to this decoder: only the drum and the last note begin inside.
    assert found == pytest.approx({(36, True): 0.1, (67, False): 1.4}, abs=0.0125)
    assert decoded.invalid > 0, "the tied notes"


def test_events_beyond_an_excerpt_are_not_in_its_last_segment() -> None:
    whole = segment_ids(NETWORK, NOTES, 4)
    assert segment_ids(NETWORK, NOTES, 2) == whole[:2]


def test_frames_hold_what_sounds() -> None:
    kinds = frame_kinds(NETWORK, NOTES, 4).reshape(160, -1)
    assert kinds[10:70, SOUNDING + 60].all()
    assert kinds[:, SOUNDING + 60].sum() == 60
    assert np.flatnonzero(kinds[:, ONSET + 64]).tolist() == [40]
    assert np.flatnonzero(kinds[:, DRUM + 36]).tolist() == [48]
    assert np.flatnonzero(kinds[:, PROGRAM + 24]).tolist() == list(range(40, 60))
    assert np.flatnonzero(kinds[:, ENTRY + 24]).tolist() == [40]
    assert np.flatnonzero(kinds[:, END + 60]).tolist() == [70]


def test_items_are_functions_of_their_index() -> None:
    data = dataset(gain_db=6.0, noise_db=10.0, noise_share=1.0, pitch_semitones=2)
    one, same, other = data[7], data[7], data[9]
    assert torch.equal(one.frames_SFM, same.frames_SFM)
    assert one.ids == same.ids
    assert not torch.equal(one.frames_SFM, other.frames_SFM)


def test_gain_moves_every_frame_that_sounds() -> None:
    plain = dataset(gain_db=0.0)[3].frames_SFM
    loud = dataset(gain_db=20.0)[3].frames_SFM
    sounding = plain > -5
    difference = (loud - plain)[sounding]
    assert sounding.any()
    assert difference.std() < 0.02
    assert abs(difference.mean()) > 0.05


def test_a_higher_pitch_has_higher_notes_and_earlier_ends() -> None:
    shifted = moved(NOTES, 0.0, 4.0, 2 ** (2 / 12), 2)
    assert [note.pitch for note in shifted] == [62, 66, 36, 69]
    assert shifted[3].start == pytest.approx(2.5 / 2 ** (2 / 12))
    peaks = []
    for semitones in (0, 4):
        audio, notes = dataset()._cut(0, 0, 2.6, semitones)
        spectrum = np.abs(np.fft.rfft(audio[: RATE // 2] * np.hanning(RATE // 2)))
        peaks.append(69 + 12 * np.log2(spectrum.argmax() * 2 / 440))
        assert {note.pitch for note in notes if note.start < 0 < note.end} == {67 + semitones}
    assert peaks[1] - peaks[0] == pytest.approx(4, abs=0.3)


def test_a_mixture_has_the_notes_of_both_songs() -> None:
    mixed, alone = dataset(mix_share=1.0), dataset(mix_share=0.0)
    counts = [sum(len(ids) for index in range(20) for ids in data[index].ids) for data in (mixed, alone)]
    assert counts[0] > 1.2 * counts[1]


def test_batches_are_padded_and_cut() -> None:
    items = [dataset()[0], dataset()[1]]
    batch = Collate(NETWORK)(items)
    assert batch.frames_BFM.shape == (4, 40, 32)
    lengths = (batch.labels_BN != IGNORED).sum(dim=1).tolist()
    assert lengths == [len(ids) for item in items for ids in item.ids]
    short = replace(NETWORK, transformer=replace(NETWORK.transformer, max_tokens=6))
    assert Collate(short)(items).labels_BN.shape == (4, 5)
    assert batch.before_BN.numel() == 0


def test_models_with_a_memory_read_the_segment_before() -> None:
    network = replace(NETWORK, memory=MemoryConfig(length=4))
    data = Excerpts(Tones(), network, segments=2, seed=5, augment=None)
    first, second = data[0], data[1]
    known = vocabulary_of(network.vocabulary)
    assert first.before == [known.to_ids([known.tie]), first.ids[0]]
    assert second.before[1] == second.ids[0]
    assert second.before[0] == first.ids[1]
    batch = Collate(network)([first])
    assert batch.before_BN.shape == (2, 32)
    assert batch.before_BN[0].tolist() == [*known.to_ids([known.tie]), *[0] * 30]


def test_composed_songs_are_others_in_every_epoch_and_the_same_when_they_are_held_out() -> None:
    album = AlbumConfig(songs=2, seconds=4.0, sample_rate=RATE, artists=("organ",), genres=("waltz",))
    songs, held_out = ComposedSongs(album), ComposedSongs(album, held_out=True)
    pieces = [source.piece(epoch, 0, start=0, seconds=1, rate=RATE) for source in (songs, held_out) for epoch in (0, 1)]
    assert pieces[0].notes != pieces[1].notes
    assert pieces[2].notes == pieces[3].notes
    assert pieces[2].notes not in (pieces[0].notes, pieces[1].notes)
    again = ComposedSongs(album).piece(1, 0, start=0, seconds=1, rate=RATE)
    assert np.array_equal(again.audio_T, pieces[1].audio_T)


def test_a_song_that_cannot_be_read_is_replaced_by_the_next_one() -> None:
    class Broken(Tones):
        seconds = (4.0, 4.0)
        skipped = 0

        def piece(self, epoch: int, song: int, *, start: float, seconds: float, rate: int) -> Piece:
            if song == 0:
                raise AudioError("gone")
            return super().piece(epoch, song, start=start, seconds=seconds, rate=rate)

        def skip(self, song: int, error: Exception) -> None:
            self.skipped += 1

    songs = Broken()
    data = Excerpts(songs, NETWORK, segments=2, seed=5, augment=None)
    assert data[0].ids == data[2].ids
    assert songs.skipped == 1
