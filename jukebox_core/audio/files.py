"""Reads and writes audio files. Imports no torch.

Audio is float32 in [-1, 1] at a requested sample rate in Hz: mono [T], or multichannel [T, C].
"""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import soundfile
import soxr

from jukebox_core.audio.sink import Sink
from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.paths import shortened
from jukebox_core.errors import AudioError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

AudioFormat = Literal["wav", "flac", "mp3"]

_ENCODINGS = {"wav": "PCM_16", "flac": "PCM_16", "mp3": "MPEG_LAYER_III"}
_READABLE = "wav, flac, ogg or mp3"
_RESAMPLER_RADIUS = 1024  # samples of context on each side that a resampled excerpt depends on


class _Excerpt(NamedTuple):
    """The frames to decode for an excerpt, at the file's own rate."""

    first: int
    frames: int  # -1: to the end
    skip: int  # samples at the requested rate to drop from the front after resampling


def read_audio(
    path: str | Path, *, rate: int, seconds: float | None = None, offset: float = 0.0
) -> NDArray[np.float32]:
    """Returns a file's audio as mono float32 [T] at ``rate`` Hz: channels are averaged, other rates resampled.

    Args:
        path: a wav, flac, ogg or mp3 file.
        rate: sample rate of the result, in Hz.
        seconds: length; None reads to the end. Only that part of a long file is decoded.
        offset: start, in seconds.

    Raises:
        AudioError: the range is invalid, or the file is missing, a folder, empty, not audio, too short, or holds
            values that are not finite.
    """
    return _read(path, rate, seconds, offset, mono=True)[:, 0]


def read_channels(
    path: str | Path, *, rate: int, seconds: float | None = None, offset: float = 0.0
) -> NDArray[np.float32]:
    """Returns a file's audio as float32 [T, C], with its channels; arguments and errors as of `read_audio`."""
    return _read(path, rate, seconds, offset, mono=False)


def audio_seconds(path: Path) -> float:
    """Returns the duration of an audio file by its header, in seconds; nothing is decoded.

    Raises:
        AudioError: the file is missing, a folder, empty or not audio.
    """
    with _opened(path) as file:
        return float(file.frames / file.samplerate)


def require_range(path: str | Path, seconds: float | None, offset: float) -> None:
    """Checks that an excerpt starts at 0 or later and is not empty.

    Raises:
        AudioError: it does not, or it is.
    """
    if offset < 0 or (seconds is not None and seconds <= 0):
        raise AudioError(
            f"cannot read {seconds} s of {path} from {offset} s on; begin at 0 or later and read more than 0 s"
        )


def _read(path: str | Path, rate: int, seconds: float | None, offset: float, *, mono: bool) -> NDArray[np.float32]:
    require_range(path, seconds, offset)
    count = None if seconds is None else math.floor(seconds * rate + 1e-6)
    samples, duration = _decode(Path(path), rate, count, offset, mono=mono)
    if len(samples) == 0 or (count is not None and len(samples) < count):
        length = "" if seconds is None else f"{seconds:g} s "
        raise AudioError(
            f"{path} lasts {duration:.2f} s, too short to read {length}from {offset:g} s on; "
            "choose a longer file or a shorter excerpt"
        )
    return samples[:count]


def write_audio(
    path: str | Path,
    samples: NDArray[np.floating],
    rate: int,
    format: AudioFormat | None = None,  # noqa: A002
) -> Path:
    """Writes samples, mono [T] or [T, C], clipped to [-1, 1], atomically, as 16-bit wav or flac, or mp3.

    Args:
        path: the file; replaced if it exists.
        samples: at least one sample, one or two channels.
        rate: in Hz.
        format: None takes it from the suffix of ``path``.

    Returns:
        The path.

    Raises:
        AudioError: unknown format, more than two channels, no samples, values that are not finite, or a rate that the
            format lacks.
        DiskError: the file cannot be written.
    """
    path = Path(path)
    container = format or path.suffix.removeprefix(".").lower()
    if container not in _ENCODINGS:
        hint = did_you_mean(container, _ENCODINGS)
        raise AudioError(f"cannot write {path} as {container!r}; choose one of {', '.join(_ENCODINGS)}{hint}")
    values = np.asarray(samples, dtype=np.float32)
    if values.ndim not in (1, 2) or values.size == 0 or values.shape[1:] > (2,):
        raise AudioError(
            f"cannot write samples of shape {values.shape} to {path}; give one row or two columns, at least one sample"
        )
    _require_finite(values, rate, path)
    with atomic_write(path) as file:
        sink = Sink(file)
        try:
            soundfile.write(sink, np.clip(values, -1, 1), rate, format=container.upper(), subtype=_ENCODINGS[container])
        except (soundfile.SoundFileError, AssertionError) as error:  # the latter after a short write
            if sink.error is None:
                reason = f"cannot write {path} as {container} at {rate} Hz: {error}; choose another format"
                raise AudioError(reason) from error
        if sink.error is not None:
            raise sink.error
    return path


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """Opens an audio file; errors inside the block become an AudioError that names the file."""
    try:
        exists = path.exists()
    except OSError as error:
        raise AudioError(f"audio file {shortened(str(path))}: {error.strerror}; correct the path") from None
    if not exists:
        raise AudioError(f"audio file {path} does not exist; correct the path")
    if path.is_dir():
        raise AudioError(f"{path} is a folder, not an audio file; name a file in it")
    if path.stat().st_size == 0:
        raise AudioError(f"audio file {path} is empty; choose another one")
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            yield file
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise AudioError(f"{path} is not audio that can be read ({error}); give a {_READABLE} file") from error


def _decode(
    path: Path, rate: int, count: int | None, offset: float, *, mono: bool
) -> tuple[NDArray[np.float32], float]:
    """Returns the excerpt [T, C], shorter than `count` if the file ends, and the file's duration in seconds."""
    with _opened(path) as file:
        own_rate: int = file.samplerate
        excerpt = _excerpt(own_rate, rate, count, math.floor(offset * rate + 1e-6))
        first = min(excerpt.first, file.frames)
        file.seek(first)
        samples_TC: NDArray[np.float32] = file.read(excerpt.frames, dtype="float32", always_2d=True)
        length = file.frames
    if excerpt.frames > len(samples_TC):
        length = first + len(samples_TC)  # a header can promise more frames than the file has
    if mono:
        samples_TC = samples_TC.mean(axis=1, dtype=np.float32, keepdims=True)
    _require_finite(samples_TC, own_rate, path)
    if own_rate != rate and len(samples_TC):
        samples_TC = soxr.resample(samples_TC, own_rate, rate, quality="VHQ")
    return samples_TC[excerpt.skip :], length / own_rate


def _excerpt(own_rate: int, rate: int, count: int | None, start: int) -> _Excerpt:
    """Returns the frames to decode for ``count`` samples from sample ``start`` on, both at ``rate``.

    A resampled excerpt must equal that part of the whole file resampled, so the frames start where samples of both
    rates coincide, and include the resampler's context.
    """
    if own_rate == rate:
        return _Excerpt(start, -1 if count is None else count, 0)
    common = math.gcd(own_rate, rate)
    step, own_step = rate // common, own_rate // common
    radius = math.ceil(_RESAMPLER_RADIUS * max(1, rate / own_rate))
    periods = max(0, start - radius) // step
    skip = start - periods * step
    frames = -1 if count is None else math.ceil((skip + count + radius) * own_rate / rate)
    return _Excerpt(periods * own_step, frames, skip)


def _require_finite(samples: NDArray[np.float32], rate: int, path: Path) -> None:
    broken = ~np.isfinite(samples)
    if broken.any():
        where = float(np.argwhere(broken)[0, 0]) / rate
        raise AudioError(
            f"the audio of {path} has values that are not finite, the first {where:.2f} s in; export it again"
        )
