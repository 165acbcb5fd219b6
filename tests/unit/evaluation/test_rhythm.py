from __future__ import annotations

import numpy as np
import pytest

from jukebox_core.composer.render import render
from jukebox_core.composer.score import compose
from jukebox_core.composer.styles import GENRES
from jukebox_core.evaluation.rhythm import beat_strength, onset_strength, onsets, tempo, tempo_is

RATE = 22050


def clicks(tempo: float, seconds: float = 8.0) -> np.ndarray:
    audio = 1e-4 * np.random.default_rng(0).standard_normal(int(seconds * RATE)).astype(np.float32)
    for start in np.arange(0.1, seconds - 0.1, 60 / tempo):
        audio[int(start * RATE) :][:400] += 0.5 * np.hanning(400).astype(np.float32) * np.sin(np.arange(400))
    return audio


@pytest.mark.parametrize("genre", GENRES)
def test_the_tempo_of_a_song_is_found(genre: str) -> None:
    for number in range(2):
        score = compose(number, artist="drums and bass", genre=genre, seconds=12, sung=False)
        assert tempo_is(tempo(render(score, RATE)[:, 0], RATE), (score.tempo,))


@pytest.mark.parametrize("beats", [84, 101, 120, 143])
def test_onsets_and_beats_of_clicks(beats: float) -> None:
    audio = clicks(beats)
    found = onsets(audio, RATE)
    wanted = np.arange(0.1, 7.9, 60 / beats)
    assert len(found) == len(wanted)
    assert np.abs(found - wanted).max() < 0.03
    assert tempo(audio, RATE) == pytest.approx(beats, rel=0.01)
    assert beat_strength(audio, RATE, (beats,)) > 0.8
    assert beat_strength(audio, RATE, (beats * 1.3,)) < 0.2


def test_noise_and_silence_have_no_beat() -> None:
    noise = np.random.default_rng(1).standard_normal(8 * RATE).astype(np.float32)
    silence = np.zeros(8 * RATE, np.float32)
    assert beat_strength(noise, RATE, (112, 118)) < 0.15
    assert len(onsets(noise, RATE)) < 8
    assert onset_strength(silence, RATE).max() == 0
    assert len(onsets(silence, RATE)) == 0
    assert tempo(silence, RATE) == 80
    assert beat_strength(silence, RATE, (100,)) == 0


def test_tempos_are_equal_in_any_octave_within_four_percent() -> None:
    assert tempo_is(62, (120, 126))
    assert tempo_is(120, (58, 62))
    assert tempo_is(116, (112,))
    assert not tempo_is(117, (112,))
    assert not tempo_is(90, (120,))
