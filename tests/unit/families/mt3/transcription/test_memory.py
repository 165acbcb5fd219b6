from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from jukebox_core.families.mt3.config import MemoryConfig, TranscriptionConfig
from jukebox_core.families.mt3.model import cache
from jukebox_core.families.mt3.model.transformer import MT3
from jukebox_core.families.mt3.transcription.memory import FIRST_ROOM, cache_numbers, transcription_bytes, working_bytes
from jukebox_core.models.presets import load_preset


@pytest.mark.parametrize(("name", "tokens"), [("mt3", 5), ("mt3", 70), ("mr_mt3", 65), ("yourmt3", 20)])
@torch.no_grad()
def test_the_cache_has_as_many_numbers_as_estimated(name: str, tokens: int) -> None:
    assert cache.FIRST_ROOM == FIRST_ROOM
    network = load_preset(name).network
    sizes = replace(
        network.transformer,
        width=8,
        heads=2,
        head_width=4,
        mlp_width=8,
        decoder_depth=2,
        encoder_depth=min(1, network.transformer.encoder_depth),
    )
    memory = network.memory and MemoryConfig(length=network.memory.length)
    perceiver = network.perceiver and replace(network.perceiver, convolutions=2, blocks=1, mlp_width=8)
    small = replace(network, transformer=sizes, memory=memory, perceiver=perceiver)
    model, rows = MT3(small), 2 * small.channels
    frames = small.front_end.segment_frames
    source = torch.zeros(rows, frames, 8)
    if memory:
        source = model.with_memory(source, torch.zeros(rows, 1024, dtype=torch.long))
    made = model.start(source)
    for _ in range(tokens):
        model.step(torch.zeros(rows, dtype=torch.long), made)
    tensors = [
        each for layer in made.layers for each in (layer.cross_k_BHSD, layer.cross_v_BHSD, layer.k_BHRD, layer.v_BHRD)
    ]
    assert sum(each.numel() for each in tensors if each is not None) == cache_numbers(small, rows, tokens)


def test_yourmt3_needs_what_was_measured_and_less_than_600_mb() -> None:
    network, settings = load_preset("yourmt3").network, TranscriptionConfig()
    needed = working_bytes(network, settings, "float32")
    assert needed == pytest.approx(183 * 2**20, rel=0.15)  # measured above the weights
    assert working_bytes(network, replace(settings, batch_size=13), "float32") == needed
    assert working_bytes(network, replace(settings, batch_size=130), "float32") > 2 * needed
    assert needed / 2 <= working_bytes(network, settings, "bfloat16") < needed


@pytest.mark.parametrize("name", ["mt3", "mr_mt3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_the_largest_batch_takes_at_most_600_mb_besides_the_weights(name: str, dtype: str) -> None:
    assert 10e6 < working_bytes(load_preset(name).network, TranscriptionConfig(), dtype) < 600e6


def test_it_grows_with_the_batch_the_limit_and_the_precision() -> None:
    sizes, default = load_preset("mt3").network, TranscriptionConfig()
    usual = working_bytes(sizes, default, "float32")
    assert working_bytes(sizes, default, "int8") == working_bytes(sizes, default, "bfloat16") < 0.6 * usual
    assert working_bytes(sizes, replace(default, batch_size=32), "float32") == 2 * usual
    assert working_bytes(sizes, replace(default, max_tokens=128), "float32") < usual / 2
    assert working_bytes(sizes, replace(default, num_beams=4), "float32") < usual  # fewer segments, as many rows
    assert working_bytes(sizes, replace(default, constrained=True), "float32") < usual / 4  # one segment at a time


def test_weights_are_loaded_in_float32() -> None:
    sizes, small = load_preset("mt3").network, TranscriptionConfig(batch_size=1, max_tokens=64)
    assert transcription_bytes(sizes, 10**9, small, "int8") == 4 * 10**9
    assert transcription_bytes(sizes, 10**9, small, "float32") > 4 * 10**9
