from __future__ import annotations

import numpy as np
import pytest

from jukebox_core.composer.tune import TUNE_SECONDS, tune
from jukebox_core.errors import AudioError


def test_it_is_the_same_every_time_and_another_for_another_seed() -> None:
    first = tune(2, 22050)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(tune(2, 22050), first)
    assert not np.array_equal(tune(2, 22050, seed=1), first)


def test_a_shorter_tune_is_the_beginning_of_a_longer_one() -> None:
    np.testing.assert_array_equal(tune(3.3, 8000), tune(10, 8000)[: int(3.3 * 8000)])


@pytest.mark.parametrize("seed", range(4))
def test_it_is_loud_enough_never_clips_and_never_falls_silent(seed: int) -> None:
    samples = tune(TUNE_SECONDS, 22050, seed)
    assert 0.4 < np.abs(samples).max() < 0.95
    assert abs(samples.mean()) < 0.005
    beats = samples[: len(samples) // 11025 * 11025].reshape(-1, 11025)
    assert np.sqrt((beats**2).mean(axis=1)).min() > 0.05


def test_bass_and_melody_are_in_one_major_key() -> None:
    spectrum = np.abs(np.fft.rfft(tune(TUNE_SECONDS, 22050) * np.hanning(int(TUNE_SECONDS * 22050))))
    hertz = np.fft.rfftfreq(int(TUNE_SECONDS * 22050), 1 / 22050)
    chroma = np.zeros(12)
    for note in range(45, 84):
        centre = 440 * 2 ** ((note - 69) / 12)
        chroma[note % 12] += spectrum[np.abs(hertz - centre) < centre * 0.01].max()
    keys = [sum(chroma[(key + step) % 12] for step in (0, 2, 4, 5, 7, 9, 11)) for key in range(12)]
    assert max(keys) > 0.8 * chroma.sum()


@pytest.mark.parametrize(("seconds", "rate"), [(0, 44100), (-1, 44100), (1, 0)])
def test_impossible_lengths_are_refused(seconds: float, rate: int) -> None:
    with pytest.raises(AudioError, match="must be positive"):
        tune(seconds, rate)
