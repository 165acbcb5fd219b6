"""Estimated memory of a transcription, from sizes alone. Imports no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jukebox_core.families.mt3.config import LinearFrontEndConfig

if TYPE_CHECKING:
    from jukebox_core.families.mt3.config import MT3Network, TranscriptionConfig

FIRST_ROOM = 64  # tokens for which a cache has memory at first; it doubles when they are full
_WEIGHT_BYTES = {"float32": 4, "auto": 4, "bfloat16": 2, "int8": 1}
_ALIVE = 3  # results of the largest layer that exist at the same time


def transcription_bytes(network: MT3Network, parameters: int, settings: TranscriptionConfig, dtype: str) -> int:
    """Returns the estimated bytes of a transcription; weights are loaded in float32, then converted."""
    return max(parameters * _WEIGHT_BYTES[dtype] + working_bytes(network, settings, dtype), 4 * parameters)


def working_bytes(network: MT3Network, settings: TranscriptionConfig, dtype: str) -> int:
    """Returns the estimated bytes that are needed besides the weights, whatever the length of the recording.

    All sequences are as long as they may be. The spectrogram's and the encoder's results are freed before the caches
    fill.
    """
    sequential = settings.constrained or bool(network.memory and network.memory.length)
    segments = 1 if sequential else max(1, settings.batch_size // (network.channels * settings.num_beams))
    tokens = min(settings.max_tokens or network.transformer.max_tokens, network.transformer.max_tokens)
    sources = segments * network.channels
    cached = cache_numbers(network, sources * settings.num_beams, tokens, sources)
    largest = max(_encoder_numbers(network, segments), _spectrogram_numbers(network, segments))
    return max(cached * (4 if _WEIGHT_BYTES[dtype] == 4 else 2), 4 * largest) + 4 * _filter_numbers(network)


def cache_numbers(network: MT3Network, rows: int, tokens: int, sources: int | None = None) -> int:
    """Returns how many numbers the keys and values of `rows` sequences of `tokens` tokens are, and of their sources."""
    sizes = network.transformer
    source = network.front_end.segment_frames + (network.memory.length if network.memory else 0)
    room = FIRST_ROOM << max(0, math.ceil(math.log2(tokens / FIRST_ROOM)))
    inner = sizes.heads * sizes.head_width
    return 2 * sizes.decoder_depth * inner * ((rows if sources is None else sources) * source + rows * room)


def _encoder_numbers(network: MT3Network, segments: int) -> int:
    """Returns the numbers of the largest results of the encoder; a Perceiver reads segments one by one."""
    frames, sizes, perceiver = network.front_end.segment_frames, network.transformer, network.perceiver
    if perceiver is not None and isinstance(network.front_end, LinearFrontEndConfig):
        return _ALIVE * perceiver.convolutions * frames * network.front_end.bins
    widest = max(sizes.mlp_width, sizes.heads * (sizes.head_width + frames))
    return _ALIVE * segments * frames * widest


def _spectrogram_numbers(network: MT3Network, segments: int) -> int:
    """Returns the numbers of the largest results of a spectrogram: audio, windows, complex spectra, magnitudes."""
    front_end = network.front_end
    frames, bins = front_end.segment_frames, front_end.fft // 2 + 1
    audio = 2 * (front_end.segment_samples + front_end.fft)
    return segments * (audio + frames * (front_end.fft + 3 * bins))


def _filter_numbers(network: MT3Network) -> int:
    """Returns the numbers of the window and the mel filters."""
    front_end = network.front_end
    if isinstance(front_end, LinearFrontEndConfig):
        return front_end.fft
    return front_end.fft + (front_end.fft // 2 + 1) * front_end.mels
