from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from jukebox_core.families.mt3.config import EOS_ID, MemoryConfig, TranscriptionConfig
from jukebox_core.families.mt3.model import cache
from jukebox_core.families.mt3.model.front_end import FrontEnd
from jukebox_core.families.mt3.model.transformer import MT3
from jukebox_core.families.mt3.training.initialise import new_model
from jukebox_core.families.mt3.transcription.memory import FIRST_ROOM, cache_numbers, transcription_bytes, working_bytes
from jukebox_core.families.mt3.transcription.transcriber import Transcriber
from jukebox_core.models.presets import load_preset
from jukebox_core.training.memory import LiveBytes


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
    twice = working_bytes(sizes, replace(default, batch_size=32), "float32")
    assert twice == pytest.approx(2 * usual, rel=0.01)  # but for the filters of the spectrogram
    assert working_bytes(sizes, replace(default, max_tokens=128), "float32") < usual / 2
    assert working_bytes(sizes, replace(default, num_beams=4), "float32") < usual  # fewer segments, as many rows
    assert working_bytes(sizes, replace(default, constrained=True), "float32") < usual / 4  # one segment at a time


def test_weights_are_loaded_in_float32() -> None:
    sizes, small = load_preset("mt3").network, TranscriptionConfig(batch_size=1, max_tokens=64)
    assert transcription_bytes(sizes, 10**9, small, "int8") == 4 * 10**9
    assert transcription_bytes(sizes, 10**9, small, "float32") > 4 * 10**9


# What takes most: the spectrogram, the encoder, the caches.
@pytest.mark.parametrize(
    "changes",
    [{}, {"mlp_width": 4096, "max_tokens": 8}, {"heads": 8, "head_width": 32, "decoder_depth": 6, "max_tokens": 128}],
)
@pytest.mark.parametrize("batch", [3, 8])
def test_transcribing_takes_what_is_estimated(changes: dict[str, int], batch: int) -> None:
    preset = load_preset("mini_mt3")
    front_end = replace(preset.network.front_end, fft=1024, hop=160, mels=64, segment_frames=48)
    sizes = {"width": 64, "heads": 2, "head_width": 32, "mlp_width": 64, "encoder_depth": 1, "decoder_depth": 1}
    transformer = replace(preset.network.transformer, **{**sizes, "max_tokens": 32, **changes})
    network = replace(preset.network, front_end=front_end, transformer=transformer)
    config, settings = replace(preset.config, network=network), TranscriptionConfig(batch_size=batch)
    with LiveBytes() as live:
        model = new_model(network, 0).eval()
        with torch.no_grad():
            model.head.weight[EOS_ID] = 0.0  # some other id is likelier: no segment ends before the limit
        transcriber = Transcriber(model, FrontEnd(front_end))
        live.peak = live.now
        audio = np.random.default_rng(0).standard_normal(batch * front_end.segment_samples - 1).astype(np.float32)
        rows = [each.row for each in transcriber.transcripts(audio, settings)]
    assert len(rows) == batch
    assert max(len(row.ids) for row in rows) == transformer.max_tokens - 1
    needed = preset.opened.transcription_bytes(config, settings, "float32")
    assert needed == pytest.approx(live.peak, rel=0.1)
