"""Estimated memory of a transcription, from sizes alone. Imports no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jukebox_core.families.mt3.config import LinearFrontEndConfig

if TYPE_CHECKING:
    from jukebox_core.families.mt3.config import MT3Network, TranscriptionConfig

FIRST_ROOM = 64  # tokens for which a cache has memory at first; it doubles when they are full
_ELEMENT = {"bfloat16": 2}  # bytes of a number; 4 in any other precision
_ALIVE = 3  # results of the largest layer that exist at the same time


def working_bytes(network: MT3Network, settings: TranscriptionConfig, dtype: str) -> int:
    """Returns the estimated bytes that are needed besides the weights, whatever the length of the recording."""
    sequential = settings.constrained or bool(network.memory and network.memory.length)
    segments = 1 if sequential else max(1, settings.batch_size // network.channels)
    tokens = min(settings.max_tokens or network.transformer.max_tokens, network.transformer.max_tokens)
    decoder = cache_numbers(network, segments * network.channels, tokens)
    return max(decoder, _encoder_numbers(network, segments)) * _ELEMENT.get(dtype, 4)


def cache_numbers(network: MT3Network, rows: int, tokens: int) -> int:
    """Returns how many numbers the keys and values of `rows` sequences of `tokens` tokens are, those of sources too."""
    sizes = network.transformer
    source = network.front_end.segment_frames + (network.memory.length if network.memory else 0)
    room = FIRST_ROOM << max(0, math.ceil(math.log2(tokens / FIRST_ROOM)))
    return 2 * sizes.decoder_depth * rows * sizes.heads * sizes.head_width * (source + room)


def _encoder_numbers(network: MT3Network, segments: int) -> int:
    """Returns the numbers of the largest results of the encoder; a Perceiver reads segments one by one."""
    frames, sizes, perceiver = network.front_end.segment_frames, network.transformer, network.perceiver
    if perceiver is not None and isinstance(network.front_end, LinearFrontEndConfig):
        return _ALIVE * perceiver.convolutions * frames * network.front_end.bins
    widest = max(sizes.mlp_width, sizes.heads * (sizes.head_width + frames))
    return _ALIVE * segments * frames * widest
