"""Rows of the spectrogram are the pitches of the piano roll above it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from jukebox_core.audio.pitch_picture import FLOOR_DB, ROWS, pitch_levels, pitch_png

RATE = 22_050


def sine(pitch: float, seconds: float = 1.0) -> np.ndarray:
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


@pytest.mark.parametrize("pitch", [36, 48, 55, 56, 69, 84, 100])
def test_a_sine_is_in_the_middle_row_of_its_pitch(pitch: int) -> None:
    levels = pitch_levels(sine(pitch), RATE, 10, 33, 108)
    assert levels.shape == ((108 - 33 + 1) * ROWS, 10)
    row = int(np.argmax(levels[:, 5]))
    assert abs(row - ((pitch - 33) * ROWS + 1)) <= (1 if pitch < 56 else 2)
    assert levels.max() == 0.0


def test_columns_are_equal_parts_of_the_time() -> None:
    sound = np.concatenate([sine(60), np.zeros(RATE, np.float32)])
    levels = pitch_levels(sound, RATE, 8, 60, 60)
    assert levels[:, :3].max(axis=0).min() > -6
    assert levels[:, 6:].max() == FLOOR_DB


@pytest.mark.parametrize("samples", [1, 200])
def test_silence_and_the_shortest_sound_have_a_picture(samples: int) -> None:
    png = pitch_png(np.zeros(samples, np.float32), RATE, 1, 30, 80)
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size == (1, 51 * ROWS)
