"""An MT3 model in Python: audio in, notes out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import soxr

from jukebox_core.audio.spool import spool_audio
from jukebox_core.errors import AudioError
from jukebox_core.families.mt3.config import TRANSCRIBER, MT3Config, TranscriptionConfig
from jukebox_core.models.resolve import obtain_weights
from jukebox_core.runtime.device import resolve_device, use_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from jukebox_core.families.mt3.family import MT3Family
    from jukebox_core.families.mt3.transcription.transcriber import Transcriber
    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.notes.note import Note
    from jukebox_core.notes.notes import Notes
    from jukebox_core.runtime.config import HardwareConfig


class TranscriptionModel:
    """A model that writes the notes of music; its weights are loaded when they are first needed."""

    def __init__(self, settings: ModelSettings, hardware: HardwareConfig, weights: WeightsConfig) -> None:
        """Checks the device; loads nothing. `jukebox_core.load_model` is the usual constructor."""
        self._settings, self._hardware, self._weights = settings, hardware, weights
        resolve_device(hardware.device)
        self._transcriber: Transcriber | None = None
        use_threads(hardware)

    @property
    def config(self) -> MT3Config:
        """The model's hyperparameters."""
        found: MT3Config = self._settings.config
        return found

    @property
    def transcriber(self) -> Transcriber:
        """The network and its front end, loaded."""
        if self._transcriber is None:
            path = obtain_weights(self._settings, self._weights, roles=(TRANSCRIBER,))[TRANSCRIBER].path
            family = cast("MT3Family", self._settings.opened)
            self._transcriber = family.open_transcriber(self.config, path, self._hardware)
        return self._transcriber

    def transcribe(
        self,
        audio: str | os.PathLike[str] | ArrayLike,
        *,
        rate: int | None = None,
        settings: TranscriptionConfig | None = None,
    ) -> Notes:
        """Returns the notes of a recording, with counts of what was lost.

        Args:
            audio: the path of an audio file, or samples in [-1, 1]: mono [T], or [T, C], whose channels are averaged.
            rate: sample rate of samples in Hz; by default the model's, `config.sample_rate`. Others are resampled.
            settings: batch size, constraints, programs, parity with upstream.

        Raises:
            AudioError: the file cannot be read, or the samples are not finite or shorter than 10 ms.
            DownloadError, CheckpointError: the model's file cannot be downloaded, or is invalid.
            ConfigError: its licence must be acknowledged first.
        """
        return self.transcriber.transcribe(self._samples(audio, rate), settings)

    def stream(
        self,
        audio: str | os.PathLike[str] | ArrayLike,
        *,
        rate: int | None = None,
        settings: TranscriptionConfig | None = None,
    ) -> Iterator[list[Note]]:
        """Yields the notes that end in each segment, while the recording is transcribed; arguments as `transcribe`."""
        return self.transcriber.stream(self._samples(audio, rate), settings)

    def _samples(self, audio: str | os.PathLike[str] | ArrayLike, rate: int | None) -> NDArray[np.float32]:
        own = self.config.sample_rate
        if isinstance(audio, str | os.PathLike):
            return spool_audio(Path(audio), rate=own).samples
        samples = _mono(audio)
        if rate is not None and rate <= 0:
            raise AudioError(f"rate is {rate}; give the sample rate in Hz")
        if rate in (None, own):
            return samples
        resampled: NDArray[np.float32] = soxr.resample(samples, rate, own, quality="HQ")
        return resampled


def _mono(audio: ArrayLike) -> NDArray[np.float32]:
    try:
        samples = np.asarray(audio, np.float32)
    except (TypeError, ValueError) as error:
        raise AudioError(f"audio is no array of numbers ({error}); give samples in [-1, 1]") from error
    if samples.ndim == 2 and 1 <= samples.shape[1] <= samples.shape[0]:
        samples = samples.mean(axis=1)
    if samples.ndim != 1:
        raise AudioError(f"audio has shape {samples.shape}; give mono [time] or [time, channels]")
    if not np.isfinite(samples).all():
        raise AudioError("audio holds values that are not finite; give samples in [-1, 1]")
    return samples
