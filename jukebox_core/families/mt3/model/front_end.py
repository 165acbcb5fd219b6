"""Audio to log-mel spectrograms, segment by segment.

    x = |rFFT(Hann(2048) * frame)| @ mel;  log-mel = log(x), or log(1e-5) where x is not positive

A segment is computed from its own samples alone, so that its last frames see zeros instead of the audio that follows.
Frames after the end of the audio are 0. Legend: S segments, F frames, T samples, M mels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jukebox_core.families.mt3.events.segments import frame_count, segment_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jukebox_core.families.mt3.config import AnyFrontEnd, FrontEndConfig, LinearFrontEndConfig

_SILENCE = 1e-5  # replaces magnitudes that are not positive; smaller positive ones keep their logarithm
_LOWEST, _HIGHEST = -12.0, 5.0  # of log-mels that are scaled to [0, 1]
_LINEAR_SILENCE, _LINEAR_MARGIN = 1e-5, 0.008  # added to magnitudes, and to the range of their logarithms


class FrontEnd(nn.Module):
    """The spectrogram of a model; it has no weights."""

    window: Tensor
    mel: Tensor

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.fft, periodic=True), persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel_matrix(config)), persistent=False)

    def segments(self, audio_T: Tensor, first: int = 0, count: int | None = None) -> Tensor:
        """Returns the audio of segments (`audio_segments`)."""
        return audio_segments(self.config, audio_T, first, count)

    def forward(self, audio_T: Tensor, first: int = 0, count: int | None = None) -> Tensor:
        """Returns log-mels [S, F, M] of segments of a recording; arguments as of `audio_segments`."""
        config = self.config
        audio_ST = self.segments(audio_T, first, count)
        padded_ST = functional.pad(audio_ST, (0, config.fft - config.hop))
        frames_SFN = padded_ST.unfold(-1, config.fft, config.hop) * self.window
        magnitude_SFB = torch.fft.rfft(frames_SFN).abs()
        x_SFM = magnitude_SFB @ self.mel
        log_SFM = torch.where(x_SFM > 0, x_SFM, _SILENCE).log()
        if config.normalise:
            log_SFM = (log_SFM.clamp(_LOWEST, _HIGHEST) - _LOWEST) / (_HIGHEST - _LOWEST)
        left = frame_count(len(audio_T), config.hop) - first * config.segment_frames
        frame_SF = torch.arange(log_SFM.shape[0] * log_SFM.shape[1], device=log_SFM.device).reshape(log_SFM.shape[:2])
        return log_SFM.masked_fill((frame_SF >= left)[..., None], 0.0)


class LinearFrontEnd(nn.Module):
    """The spectrogram of YourMT3: frames are centred, and segments are mirrored at their ends.

    x = log(|rFFT(window * frame)| + 1e-5), without 0 Hz;  (x - min) / (max - min + 0.008), over each segment
    """

    window: Tensor

    def __init__(self, config: LinearFrontEndConfig, window: Tensor) -> None:
        """Takes the window from the model, whose file holds it."""
        super().__init__()
        self.config = config
        self.register_buffer("window", window, persistent=False)

    def forward(self, audio_T: Tensor, first: int = 0, count: int | None = None) -> Tensor:
        """Returns spectrograms [S, F, bins] of segments of a recording; arguments as of `audio_segments`."""
        audio_ST = audio_segments(self.config, audio_T, first, count)
        spectrum_SBF = torch.stft(
            audio_ST, self.config.fft, self.config.hop, window=self.window, pad_mode="reflect", return_complex=True
        )
        log_SFB = (spectrum_SBF[:, 1:].abs() + _LINEAR_SILENCE).log().transpose(1, 2)
        low, high = log_SFB.amin((1, 2), keepdim=True), log_SFB.amax((1, 2), keepdim=True)
        return (log_SFB - low) / (high - low + _LINEAR_MARGIN)


def audio_segments(config: AnyFrontEnd, audio_T: Tensor, first: int = 0, count: int | None = None) -> Tensor:
    """Returns the audio of segments, [S, T], the last one filled with zeros.

    Args:
        config: length of a segment.
        audio_T: the whole recording.
        first: index of the first segment.
        count: number of segments; by default all that follow.
    """
    size = config.segment_samples
    stop = segment_count(len(audio_T), config) if count is None else first + count
    part = audio_T[first * size : stop * size]
    return functional.pad(part, (0, (stop - first) * size - len(part))).reshape(stop - first, size)


def mel_matrix(config: FrontEndConfig) -> NDArray[np.float32]:
    """Returns the weights of mel filters, float32 [fft // 2 + 1, mels]: triangles of height 1, equally spaced in mel.

    With slopes ``mel``, they are linear in mel, computed in float32 as TensorFlow does, and the lowest bin counts
    nowhere; with ``hz`` they are linear in Hz.
    """
    bins = config.fft // 2 + 1
    hz = np.linspace(0.0, config.sample_rate / 2, bins, dtype=np.float32)
    if config.slopes == "mel":
        low, high = (_mel(np.float32(each)) for each in (config.low_hz, config.high_hz))
        edges, x = np.linspace(low, high, config.mels + 2, dtype=np.float32), _mel(hz)
    else:
        low, high = (2595.0 * np.log10(1.0 + each / 700.0) for each in (config.low_hz, config.high_hz))
        edges = (700.0 * (10.0 ** (np.linspace(low, high, config.mels + 2) / 2595.0) - 1.0)).astype(np.float32)
        x = hz
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (x[:, None] - lower) / (centre - lower)
    falling = (upper - x[:, None]) / (upper - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    if config.slopes == "mel":
        weights[0] = 0.0
    return weights.astype(np.float32)


def _mel(hz: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    return np.asarray(np.float32(1127.0) * np.log(np.float32(1.0) + hz / np.float32(700.0)), np.float32)
