"""Prompts as the original reads them: docs/upstream.md, Windows (prompts) and the ``pipeline_*`` bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.audio.files import read_audio

if TYPE_CHECKING:
    from pathlib import Path

RATE = 44100


def test_prompts_are_read_as_the_original_reads_them(golden: Path) -> None:
    bundles = [folder for folder in sorted(golden.glob("pipeline_*")) if (folder / "io.npz").exists()]
    compared = 0
    for folder in bundles:
        prompts = sorted(folder.glob("prompt_*.wav"))
        with np.load(folder / "io.npz") as arrays:
            if not prompts or "primed.x_prompt" not in arrays:
                continue
            expected_NTC = arrays["primed.x_prompt"]
        for index, expected_TC in enumerate(expected_NTC):
            path = prompts[index % len(prompts)]  # the list of files is repeated until there is one for each sample
            read = read_audio(path, rate=RATE, seconds=len(expected_TC) / RATE)
            np.testing.assert_array_equal(read, expected_TC.reshape(-1), err_msg=f"{folder.name} sample {index}")
            compared += 1
    if not compared:
        pytest.skip(f"{golden} has no pipeline bundle with prompts")
