"""Rows over time: resampling by FFT, means of frames, and pooling window by window."""

from __future__ import annotations

import numpy as np
import pytest

from jukebox_core.errors import AudioError
from jukebox_core.features.config import FeatureConfig
from jukebox_core.features.pooling import RowPool, resample_fourier, resample_frames, row_rate

NATIVE = 344.53125


def rows(count: int, width: int = 3, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, width)).astype(dtype)


def pooled(given: np.ndarray, cut: int, **recipe: object) -> np.ndarray:
    pool = RowPool(FeatureConfig(**recipe), NATIVE)  # type: ignore[arg-type]
    for start in range(0, len(given), cut):
        pool.add(given[start : start + cut])
    return pool.result()


@pytest.mark.parametrize("rate", [100.0, 344.53125, 700.0])
def test_a_slow_sine_keeps_its_shape(rate: float) -> None:
    length = 128
    wave = np.cos(2 * np.pi * 3 * np.arange(length) / length)[:, None].astype(np.float32)
    found = resample_fourier(wave, rate, NATIVE)
    count = len(found)
    expected = np.cos(2 * np.pi * 3 * np.arange(count) / count)[:, None]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_incomplete_frame_is_left_out() -> None:
    given = rows(70)
    found = resample_frames(given, 10.0, NATIVE)
    np.testing.assert_allclose(found, [given[:34].mean(0), given[34:68].mean(0)], rtol=1e-5)
    assert row_rate(FeatureConfig(rate=10.0, resample="frames"), NATIVE) == NATIVE / 34


@pytest.mark.parametrize("pooling", ["none", "mean", "max"])
@pytest.mark.parametrize("rate", [None, 30.0])
def test_windows_change_nothing(pooling: str, rate: float | None) -> None:
    given = rows(200)
    whole = pooled(given, 200, pooling=pooling, rate=rate)
    for cut in (7, 64, 199):
        np.testing.assert_allclose(pooled(given, cut, pooling=pooling, rate=rate), whole, atol=1e-6)


def test_means_of_half_precision_do_not_overflow() -> None:
    given = np.full((5000, 2), 60000, np.float16)
    found = pooled(given, 512, pooling="mean", dtype="float16")
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, [60000, 60000])


def test_too_little_audio_for_a_row_is_an_error() -> None:
    with pytest.raises(AudioError, match="20 codes of audio make no row at rate=10"):
        pooled(rows(20), 20, rate=10.0, resample="frames")
