"""Notes of General MIDI as sound."""

from __future__ import annotations

import numpy as np
import pytest

from jukebox_core.composer.instruments import tone
from jukebox_core.composer.playback import instrument, play
from jukebox_core.composer.styles import ARTISTS
from jukebox_core.notes.general_midi import DRUMS, PROGRAMS, drum_name, pitch_name
from jukebox_core.notes.note import Note

RATE = 8000


def loudest_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * RATE / len(samples)


def test_notes_sound_at_their_time_and_pitch() -> None:
    sound = play([Note(0.5, 1.0, 69, 127, 19), Note(1.5, 2.0, 57, 127, 19)], 2.5, RATE)
    assert sound.shape == (20_000,)
    assert not sound[:3_900].any()
    assert loudest_hz(sound[4_200:7_800]) == pytest.approx(440, abs=5)
    assert loudest_hz(sound[12_200:15_800]) == pytest.approx(220, abs=5)
    assert 0.05 < np.abs(sound).max() < 1


def test_every_program_and_drum_sounds_and_louder_notes_are_louder() -> None:
    for program in range(128):
        assert play([Note(0, 0.05, 60, 100, program)], 0.2, RATE).any()
    assert {instrument(0), instrument(10), instrument(40), instrument(58)} <= {
        sound for artist in ARTISTS.values() for sound in (artist.melody, artist.chords, artist.bass)
    }
    kinds = {play([Note(0, 0.01, key, 100, 0, is_drum=True)], 0.2, RATE).tobytes() for key in DRUMS}
    assert len(kinds) == 3
    both = play([Note(0, 0.2, 60, 20), Note(1, 1.2, 60, 127)], 2.0, RATE)
    assert np.abs(both[RATE:]).max() > 3 * np.abs(both[: RATE // 2]).max()


def test_silence_and_notes_beyond_the_end_are_harmless_and_nothing_is_kept() -> None:
    before = tone.cache_info().currsize
    assert not play([], 0.1, RATE).any()
    assert play([Note(0.05, 9.0, 60), Note(5, 6, 60)], 0.1, RATE).shape == (800,)
    assert tone.cache_info().currsize == before


def test_names_are_those_of_general_midi() -> None:
    assert len(PROGRAMS) == len(set(PROGRAMS)) == 128
    assert (PROGRAMS[0], PROGRAMS[33], PROGRAMS[56], PROGRAMS[127]) == (
        "Acoustic Grand Piano", "Electric Bass (finger)", "Trumpet", "Gunshot",
    )  # fmt: skip
    assert [pitch_name(pitch) for pitch in (0, 60, 61, 127)] == ["C-1", "C4", "C sharp 4", "G9"]
    assert (drum_name(36), drum_name(3)) == ("Bass Drum", "Drum 3")
