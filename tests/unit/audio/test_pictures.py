from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from jukebox_core.audio.pictures import (
    BANDS,
    COLUMNS,
    FLOOR_DB,
    envelope,
    mel_filters,
    mel_levels,
    spectrogram_png,
    waveform_png,
)
from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from pathlib import Path

RATE = 44_100
SIZES = {waveform_png: (960, 272), spectrogram_png: (960, 424)}
RED = (255, 77, 94)


def sine(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def noise(seconds: float, scale: float = 0.3) -> np.ndarray:
    return (scale * np.random.default_rng(0).standard_normal(int(seconds * RATE))).astype(np.float32)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize("draw", [waveform_png, spectrogram_png])
@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(np.zeros(2 * RATE, np.float32), id="silence"),
        pytest.param(np.array([0.5], np.float32), id="one sample"),
        pytest.param(noise(0.01), id="10 ms"),
        pytest.param(noise(40), id="noise, the hardest to compress"),
        pytest.param(20 * sine(440, 3), id="far beyond 1"),
        pytest.param(np.stack([sine(440, 1), sine(550, 1)], axis=1), id="stereo"),
        pytest.param(sine(440, 1).astype(np.float64), id="float64"),
    ],
)
def test_any_audio_gives_a_small_picture_of_one_size(draw, samples, tmp_path):
    draw(samples, RATE, tmp_path / "a.png")
    draw(samples, RATE, tmp_path / "b.png")
    assert pixels(tmp_path / "a.png").shape == (*SIZES[draw][::-1], 3)
    assert (tmp_path / "a.png").stat().st_size < 150_000
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("draw", [waveform_png, spectrogram_png])
def test_ten_minutes_give_a_small_picture(draw, tmp_path):
    draw(noise(600), RATE, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 150_000


def test_only_what_is_beyond_full_scale_is_red(tmp_path):
    for gain in (0.9, 1.5):
        waveform_png(gain * sine(3, 1), RATE, tmp_path / f"{gain}.png")
    assert not (pixels(tmp_path / "0.9.png") == RED).all(axis=-1).any()
    assert (pixels(tmp_path / "1.5.png") == RED).all(axis=-1).sum() > 1000


def test_a_sine_is_drawn_at_its_frequency(tmp_path):
    spectrogram_png(0.5 * sine(1000, 1), RATE, tmp_path / "a.png")
    plot = pixels(tmp_path / "a.png")[50:370, 92:852].sum(axis=(1, 2))
    height = 1 - plot.argmax() / len(plot)
    assert height == pytest.approx(np.log10(1 + 1000 / 700) / np.log10(1 + RATE / 2 / 700), abs=0.01)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_a_sine_at_full_scale_reads_nearly_0_db_and_lies_in_its_band(rate):
    for hertz in np.geomspace(60, 0.97 * rate / 2, 60):
        middle_M = mel_levels(sine(hertz, 0.6, rate), rate, 5)[:, 2]
        assert -4 < middle_M.max() < 0
        wanted = np.log1p(hertz / 700) / np.log1p(rate / 2 / 700) * BANDS
        assert abs(middle_M.argmax() + 0.5 - wanted) <= 2


def test_silence_is_the_floor():
    assert np.all(mel_levels(np.zeros(5000, np.float32), RATE, 10) == FLOOR_DB)


@pytest.mark.parametrize("click", [0, 12_345, 399_999])
def test_no_click_is_missed_in_long_audio(click):
    samples = np.zeros(400_000, np.float32)
    samples[click] = 1
    level_MN = mel_levels(samples, RATE, 4)
    assert level_MN[:, click * 4 // 400_000].max() > FLOOR_DB


def test_no_mel_filter_is_empty():
    assert np.all(mel_filters(RATE).max(axis=0) > 0.3)


def test_levels_do_not_depend_on_how_frames_are_cut_up(monkeypatch):
    samples = noise(3)
    whole = mel_levels(samples, RATE, 50)
    monkeypatch.setattr("jukebox_core.audio.pictures._FRAMES_AT_ONCE", 7)
    np.testing.assert_allclose(mel_levels(samples, RATE, 50), whole, atol=1e-3)


def test_envelope_holds_the_extremes_and_leaves_no_gap():
    samples = noise(1) + np.linspace(-0.5, 0.5, RATE, dtype=np.float32)
    low_N, high_N, rms_N = envelope(samples, COLUMNS)
    assert low_N.shape == high_N.shape == rms_N.shape == (COLUMNS,)
    assert (low_N.min(), high_N.max()) == (samples.min(), samples.max())
    assert np.all(low_N[1:] <= high_N[:-1])
    assert np.all(high_N[1:] >= low_N[:-1])
    ramp_low_N, ramp_high_N, _ = envelope(np.arange(100.0), 10)
    np.testing.assert_array_equal(ramp_low_N, [0, *range(9, 99, 10)])
    np.testing.assert_array_equal(ramp_high_N, range(9, 100, 10))
    np.testing.assert_allclose(envelope(np.array([3.0, -4.0]), 1)[2], [np.sqrt(12.5)])


@pytest.mark.parametrize("draw", [waveform_png, spectrogram_png])
@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(0, np.float32), RATE, r"shape \(0,\).*not empty"),
        (np.zeros((0, 2), np.float32), RATE, r"shape \(0, 2\).*not empty"),
        (np.zeros((2, 2, 2), np.float32), RATE, r"shape \(2, 2, 2\)"),
        (np.array([0, np.nan, np.inf], np.float32), RATE, "2 of 3 samples are not finite"),
        (np.zeros(5, np.float32), 0, "rate is 0"),
    ],
)
def test_invalid_audio_is_refused_and_nothing_is_written(draw, samples, rate, message, tmp_path):
    with pytest.raises(AudioError, match=message):
        draw(samples, rate, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_importing_loads_neither_torch_nor_matplotlib():
    heavy = {"torch", "matplotlib", "PIL"}
    code = f"import sys, jukebox_core.audio.pictures; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.strip() == "[]"
