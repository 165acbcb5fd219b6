"""The estimate of a transcription's memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jukebox_core.families.mt3.config import MT3Network, TranscriptionConfig
from jukebox_core.families.mt3.transcription.memory import transcription_bytes, weight_bytes, working_bytes
from jukebox_core.models.presets import load_preset

DEFAULT = TranscriptionConfig()


def network(name: str) -> MT3Network:
    found: MT3Network = load_preset(name).config.network
    return found


@pytest.mark.parametrize("name", ["mt3", "mr_mt3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_the_largest_batch_takes_at_most_600_mb_besides_the_weights(name: str, dtype: str) -> None:
    assert 20e6 < working_bytes(network(name), DEFAULT, dtype) < 600e6


def test_it_grows_with_the_batch_the_limit_and_the_precision() -> None:
    sizes = network("mt3")
    usual = working_bytes(sizes, DEFAULT, "float32")
    assert working_bytes(sizes, DEFAULT, "int8") == working_bytes(sizes, DEFAULT, "bfloat16") < 0.6 * usual
    assert working_bytes(sizes, replace(DEFAULT, batch_size=32), "float32") == 2 * usual
    assert working_bytes(sizes, replace(DEFAULT, max_tokens=128), "float32") < usual / 2
    assert working_bytes(sizes, replace(DEFAULT, num_beams=4), "float32") < usual  # fewer segments, as many rows
    assert working_bytes(sizes, replace(DEFAULT, constrained=True), "float32") < usual / 4  # one segment at a time


def test_weights_are_loaded_in_float32() -> None:
    sizes = network("mt3")
    small = TranscriptionConfig(batch_size=1, max_tokens=64)
    assert transcription_bytes(sizes, 10**9, small, "int8") == 4 * 10**9
    assert weight_bytes(10**9, "bfloat16") == 2 * 10**9
    assert transcription_bytes(sizes, 10**9, small, "float32") > 4 * 10**9
