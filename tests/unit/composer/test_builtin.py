"""Prompts: files, and the built-in tune."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.audio.files import read_audio, write_audio
from jukebox_core.composer.builtin import BUILTIN_TUNE, read_prompt_audio
from jukebox_core.composer.tune import tune
from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_built_in_tune_is_a_path_like_any_other() -> None:
    whole = read_prompt_audio("builtin:tune", rate=8000)
    assert whole.shape == (8 * 8000,)
    np.testing.assert_array_equal(whole, tune(8, 8000))
    excerpt = read_prompt_audio("builtin:tune", rate=8000, seconds=2, offset=1.5)
    np.testing.assert_array_equal(excerpt, whole[12000:28000])


def test_the_built_in_tune_has_any_length_that_is_given() -> None:
    excerpt = read_prompt_audio(BUILTIN_TUNE, rate=8000, seconds=3, offset=9)
    np.testing.assert_array_equal(excerpt, tune(12, 8000)[72000:])
    with pytest.raises(AudioError, match=r"builtin:tune lasts 8\.00 s, too short to read from 8 s on"):
        read_prompt_audio(BUILTIN_TUNE, rate=8000, offset=8)


@pytest.mark.parametrize(("seconds", "offset"), [(0, 0), (-1, 0), (1, -0.5)])
def test_invalid_ranges_are_refused(seconds: float, offset: float) -> None:
    for path in (BUILTIN_TUNE, "none.wav"):
        with pytest.raises(AudioError, match="begin at 0 or later"):
            read_prompt_audio(path, rate=44100, seconds=seconds, offset=offset)


def test_files_are_read_and_a_missing_one_names_the_built_in_tune(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", tune(1, 8000), 8000)
    excerpt = {"seconds": 0.5, "offset": 0.25}
    np.testing.assert_array_equal(read_prompt_audio(path, rate=8000, **excerpt), read_audio(path, rate=8000, **excerpt))
    with pytest.raises(AudioError, match="does not exist; correct the path, or use builtin:tune"):
        read_prompt_audio(tmp_path / "none.wav", rate=8000)
