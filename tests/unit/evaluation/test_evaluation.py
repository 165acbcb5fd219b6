from __future__ import annotations

import numpy as np
import pytest

from jukebox_core.composer.render import render
from jukebox_core.composer.score import compose
from jukebox_core.composer.styles import GENRES
from jukebox_core.evaluation.codes import bigram_bits_per_token, codebook_usage, unigram_bits_per_token
from jukebox_core.evaluation.sound import (
    between_partials_db,
    clipped_share,
    held_share,
    key,
    level_db,
    mu_law,
    si_sdr,
    spectral_distance,
    treble_db,
)

RATE = 22050
RNG = np.random.default_rng(0)
NOISE = RNG.standard_normal(RATE).astype(np.float32)


def test_si_sdr_is_the_ratio_of_signal_to_noise_whatever_the_scale() -> None:
    noise = RNG.standard_normal(RATE).astype(np.float32)
    for db in (-5.0, 0.0, 20.0):
        found = NOISE + noise * np.float32(10 ** (-db / 20))
        assert si_sdr(NOISE, found) == pytest.approx(db, abs=0.5)
        assert si_sdr(NOISE, 7 * found) == pytest.approx(si_sdr(NOISE, found), abs=1e-4)
    assert si_sdr(NOISE, NOISE) > 100


def test_spectral_distance_is_in_decibels() -> None:
    assert spectral_distance(NOISE, NOISE) == 0
    assert spectral_distance(NOISE, NOISE / 2) == pytest.approx(6.02, abs=0.1)
    near, far = (NOISE + share * RNG.standard_normal(RATE).astype(np.float32) for share in (0.1, 0.5))
    assert 0 < spectral_distance(NOISE, near) < spectral_distance(NOISE, far)


def test_mu_law_gains_with_bits_and_loses_what_its_rate_cannot_hold() -> None:
    t = np.arange(RATE) / RATE
    low, high = ((0.5 * np.sin(2 * np.pi * hertz * t)).astype(np.float32) for hertz in (200, 4000))
    quality = [si_sdr(low, mu_law(low, RATE, bits_per_second=RATE * bits, bits=bits)) for bits in (3, 5, 8)]
    assert quality == sorted(quality)
    assert quality[-1] > 35
    assert si_sdr(low, mu_law(low, RATE, bits_per_second=16000, bits=8)) > 25
    assert level_db(mu_law(high, RATE, bits_per_second=16000, bits=8)) < -30


def test_level_and_clipping() -> None:
    assert level_db(np.full(100, 0.1, np.float32)) == pytest.approx(-20)
    assert level_db(np.zeros(100, np.float32)) == -120
    assert clipped_share(np.array([0, 1, -1.2, 0.5], np.float32)) == 0.5


def test_the_key_of_a_song_is_found() -> None:
    right = 0
    for number in range(8):
        score = compose(number, artist="organ", genre="folk", seconds=16, sung=False)
        found = key(render(score, RATE)[:, 0], RATE)
        right += (found.tonic, found.minor) == (score.tonic % 12, False)
        assert found.fit > 0.6
    assert right >= 7
    assert GENRES["folk"].scale[2] == 4
    assert key(np.zeros(RATE, np.float32), RATE).fit == 0


def test_a_held_tone_is_no_music() -> None:
    t = np.arange(4 * RATE) / RATE
    tone = np.sin(2 * np.pi * 440 * t + 0.3 * np.sin(2 * np.pi * 5 * t)).astype(np.float32)  # with vibrato
    silence = np.zeros(4 * RATE, np.float32)
    assert held_share(tone, RATE) == 1
    assert held_share(np.concatenate([tone, silence]), RATE) == pytest.approx(0.5, abs=0.05)
    tone[RATE : RATE + 2000] = NOISE[:2000]  # a drum does not end it
    assert held_share(tone, RATE) > 0.9
    steps = [0.3 * np.sin(2 * np.pi * 220 * 2 ** (step / 12) * t[:RATE]) for step in range(8)]
    assert held_share(np.concatenate(steps).astype(np.float32), RATE) == 0  # a second each
    for number in range(4):
        score = compose(number, artist="piano and voice", genre="folk", seconds=6, sung=False)
        assert held_share(render(score, RATE)[:, 0], RATE) < 0.45  # the last chord of two seconds
    assert held_share(silence, RATE) == held_share(silence[:100], RATE) == 0


def test_noise_between_partials_is_measured() -> None:
    t = np.arange(2 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * hertz * t) / 10 for hertz in (220, 440, 660, 1110)).astype(np.float32)
    noise = RNG.standard_normal(2 * RATE).astype(np.float32)
    levels = [between_partials_db(chord + noise * np.float32(level), RATE) for level in (0, 1e-4, 1e-3, 1e-2)]
    assert levels == sorted(levels)
    assert levels[0] < -90
    assert np.diff(levels[1:]) == pytest.approx(20, abs=1)  # ten times the noise
    assert between_partials_db(noise, RATE) == pytest.approx(-11, abs=2)
    assert between_partials_db(np.zeros(RATE, np.float32), RATE) == between_partials_db(noise[:100], RATE) == 0


def test_treble_is_the_energy_above_4_khz() -> None:
    t = np.arange(RATE) / RATE
    low, high = (np.sin(2 * np.pi * hertz * t).astype(np.float32) for hertz in (1000, 6000))
    assert treble_db(low + 0.1 * high, RATE) == pytest.approx(-20, abs=0.1)
    assert treble_db(np.zeros(RATE, np.float32), RATE) == -120


def test_codebook_usage_is_the_share_of_codes_that_occur() -> None:
    assert codebook_usage([np.array([0, 1, 1]), np.array([3, 3])], 6) == 0.5


def test_cross_entropies_of_counts_are_the_entropies() -> None:
    fair = [RNG.integers(0, 8, 40_000)]
    assert unigram_bits_per_token(fair, fair, 8) == pytest.approx(3, abs=0.01)
    assert bigram_bits_per_token(fair, fair, 8) == pytest.approx(3, abs=0.01)
    turning = [np.arange(40_000) % 8]
    assert unigram_bits_per_token(turning, turning, 8) == pytest.approx(3, abs=0.01)
    assert bigram_bits_per_token(turning, turning, 8) < 0.01
    assert unigram_bits_per_token([np.zeros(1000, int)], [np.ones(10, int)], 8) > 10
