"""Audio and pictures on a full disk: one clear error, and no file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.audio.files import write_audio
from jukebox_core.audio.pictures import spectrogram_png, waveform_png
from jukebox_core.errors import DiskError
from tests.helpers.small_files import small_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOISE = np.random.default_rng(1).uniform(-0.5, 0.5, 44100)


@pytest.mark.parametrize("limit", [0, 10, 44, 4096, 6000])
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_audio_that_does_not_fit_is_one_clear_error(
    suffix: str, limit: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with small_files(limit), pytest.raises(DiskError, match=rf"a.{suffix} cannot be written: it is larger"):
        write_audio(tmp_path / f"a.{suffix}", NOISE, 44100)
    assert not [*tmp_path.iterdir()]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("draw", [waveform_png, spectrogram_png])
def test_a_picture_that_does_not_fit_is_one_clear_error_and_the_old_one_stays(
    draw: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with small_files(1000), pytest.raises(DiskError, match=r"a.png cannot be written"):
        draw(NOISE[:4410], 44100, path)
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]
