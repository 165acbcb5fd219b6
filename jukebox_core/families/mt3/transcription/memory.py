"""Estimate of the memory that a transcription takes, before anything is loaded. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jukebox_core.families.mt3.config import MT3Network, TranscriptionConfig

_WEIGHT_BYTES = {"float32": 4, "auto": 4, "bfloat16": 2, "int8": 1}


def weight_bytes(parameters: int, dtype: str) -> int:
    """Returns about how many bytes the weights take while segments are decoded."""
    return parameters * _WEIGHT_BYTES[dtype]


def working_bytes(network: MT3Network, settings: TranscriptionConfig, dtype: str) -> int:
    """Returns about how many bytes a batch takes at most, besides weights and audio: all its segments are full.

    Spectra and the encoder's activations are freed before the decoder's caches fill.
    """
    sizes, front_end = network.transformer, network.front_end
    sequential = settings.constrained or bool(network.memory and network.memory.length)
    segments = 1 if sequential else max(1, settings.batch_size // settings.num_beams)
    rows = segments * settings.num_beams
    tokens = settings.max_tokens or sizes.max_tokens
    frames, inner = front_end.segment_frames, sizes.heads * sizes.head_width
    source = frames + (network.memory.length if network.memory else 0)
    a_position = 2 * sizes.decoder_depth * inner * (4 if _WEIGHT_BYTES[dtype] == 4 else 2)  # keys and values
    caches = a_position * (rows * tokens + segments * source)
    encoded = max(frames, tokens) if network.memory else frames  # the memory encodes ids
    hidden = 4 * segments * encoded * (4 * sizes.width + 3 * sizes.mlp_width + 4 * inner)
    spectra = 4 * segments * frames * (2 * front_end.fft + 2 * front_end.fft // 2)
    return max(caches + 4 * segments * source * sizes.width, hidden, spectra)


def transcription_bytes(network: MT3Network, parameters: int, settings: TranscriptionConfig, dtype: str) -> int:
    """Returns about how many bytes a transcription takes at most; weights are loaded in float32, then converted."""
    kept = weight_bytes(parameters, dtype) + working_bytes(network, settings, dtype)
    return max(kept, 4 * parameters)
