"""Reads and writes audio files. Imports no torch.

Audio is float32 in [-1, 1] at the rate asked for, in Hz: mono [T], or [T, C] with its channels apart.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import soundfile
import soxr

from jukebox_core.base.atomic import atomic_write
from jukebox_core.composer.tune import TUNE_SECONDS, tune
from jukebox_core.errors import AudioError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

AudioFormat = Literal["wav", "flac", "mp3"]

BUILTIN_TUNE = "builtin:tune"  # a path that stands for the tune this program can play itself

_ENCODINGS = {"wav": "PCM_16", "flac": "PCM_16", "mp3": "MPEG_LAYER_III"}
_READABLE = "wav, flac, ogg or mp3"
_RESAMPLER_REACH = 1024  # samples of context on each side; beyond them a resampled excerpt no longer changes


class _Excerpt(NamedTuple):
    """The frames of a file that an excerpt needs, at the file's own rate."""

    first: int
    frames: int  # -1: all that follow
    skip: int  # samples at the wanted rate to drop from the front, once resampled


def read_audio(
    path: str | Path, *, rate: int, seconds: float | None = None, offset: float = 0.0
) -> NDArray[np.float32]:
    """The file's sound as mono float32 [T] at ``rate`` Hz: channels are averaged, other rates resampled.

    Args:
        path: a wav, flac, ogg or mp3 file, or ``builtin:tune``.
        rate: samples a second of the result.
        seconds: how much to read; None reads to the end. Only that part of a long file is decoded.
        offset: where to begin, in seconds.

    Raises:
        AudioError: the file is missing, a folder, empty, not audio, too short, or holds values that are no numbers.
    """
    return _read(path, rate, seconds, offset, mono=True)[:, 0]


def read_channels(
    path: str | Path, *, rate: int, seconds: float | None = None, offset: float = 0.0
) -> NDArray[np.float32]:
    """The file's sound as float32 [T, C], channels apart; all else as `read_audio`."""
    return _read(path, rate, seconds, offset, mono=False)


def audio_seconds(path: Path) -> float:
    """How long an audio file is by its header, in seconds; nothing is decoded.

    Raises:
        AudioError: the file is missing, a folder, empty or not audio.
    """
    with _opened(path) as file:
        return float(file.frames / file.samplerate)


def _read(path: str | Path, rate: int, seconds: float | None, offset: float, *, mono: bool) -> NDArray[np.float32]:
    if offset < 0 or (seconds is not None and seconds <= 0):
        raise AudioError(f"cannot read {seconds} s of {path} from {offset} s on; begin at 0 or later and ask for some")
    wanted = None if seconds is None else math.floor(seconds * rate + 1e-6)
    if str(path) == BUILTIN_TUNE:
        length = offset + (max(TUNE_SECONDS - offset, 0) if seconds is None else seconds)
        samples = tune(length, rate)[math.floor(offset * rate + 1e-6) :, None]
        found = length
    else:
        samples, found = _decode(Path(path), rate, wanted, offset, mono=mono)
    if len(samples) == 0 or (wanted is not None and len(samples) < wanted):
        asked = "" if seconds is None else f"{seconds:g} s "
        raise AudioError(
            f"{path} lasts {found:.2f} s, too short to read {asked}from {offset:g} s on; "
            "choose a longer file or ask for less of it"
        )
    return samples[:wanted]


def write_audio(
    path: str | Path,
    samples: NDArray[np.floating],
    rate: int,
    format: AudioFormat | None = None,  # noqa: A002
) -> Path:
    """Writes samples, mono [T] or [T, C], clipped to [-1, 1], whole or not at all: 16-bit wav and flac, or mp3.

    Without ``format`` the suffix of ``path`` chooses it. Gives the path back.

    Raises:
        AudioError: unknown format, more than two channels, nothing to write, a full disk, or a rate the format lacks.
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
    try:
        with atomic_write(path) as file:
            soundfile.write(file, np.clip(values, -1, 1), rate, format=container.upper(), subtype=_ENCODINGS[container])
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"cannot write {path} as {container} at {rate} Hz: {error}; choose another format") from error
    return path


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """The audio file; whatever fails while it is open is the file's fault, and said so."""
    if not path.exists():
        raise AudioError(f"audio file {path} does not exist; correct the path, or use {BUILTIN_TUNE}")
    if path.is_dir():
        raise AudioError(f"{path} is a folder, not an audio file; name a file in it")
    if path.stat().st_size == 0:
        raise AudioError(f"audio file {path} is empty; choose another one")
    try:
        with soundfile.SoundFile(str(path)) as file:
            yield file
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise AudioError(f"{path} is not audio that can be read ({error}); give a {_READABLE} file") from error


def _decode(
    path: Path, rate: int, wanted: int | None, offset: float, *, mono: bool
) -> tuple[NDArray[np.float32], float]:
    """The excerpt [T, C], perhaps shorter than wanted; and how long the file is, in seconds."""
    with _opened(path) as file:
        own_rate: int = file.samplerate
        excerpt = _excerpt(own_rate, rate, wanted, math.floor(offset * rate + 1e-6))
        first = min(excerpt.first, file.frames)
        file.seek(first)
        samples_TC: NDArray[np.float32] = file.read(excerpt.frames, dtype="float32", always_2d=True)
        length = file.frames
    if excerpt.frames > len(samples_TC):
        length = first + len(samples_TC)  # what a header promises can be more than there is
    if mono:
        samples_TC = samples_TC.mean(axis=1, dtype=np.float32, keepdims=True)
    _require_finite(samples_TC, own_rate, path)
    if own_rate != rate and len(samples_TC):
        samples_TC = soxr.resample(samples_TC, own_rate, rate, quality="VHQ")
    return samples_TC[excerpt.skip :], length / own_rate


def _excerpt(own_rate: int, rate: int, wanted: int | None, start: int) -> _Excerpt:
    """What to read for ``wanted`` samples from sample ``start`` on, both at ``rate``.

    A resampled excerpt equals the same part of the whole file resampled: it begins where samples of both rates
    coincide, and brings the resampler's context along.
    """
    if own_rate == rate:
        return _Excerpt(start, -1 if wanted is None else wanted, 0)
    common = math.gcd(own_rate, rate)
    step, own_step = rate // common, own_rate // common
    reach = math.ceil(_RESAMPLER_REACH * max(1, rate / own_rate))
    periods = max(0, start - reach) // step
    skip = start - periods * step
    frames = -1 if wanted is None else math.ceil((skip + wanted + reach) * own_rate / rate)
    return _Excerpt(periods * own_step, frames, skip)


def _require_finite(samples: NDArray[np.float32], rate: int, path: Path) -> None:
    broken = ~np.isfinite(samples)
    if broken.any():
        where = float(np.argwhere(broken)[0, 0]) / rate
        raise AudioError(
            f"the sound of {path} holds values that are no numbers, the first {where:.2f} s in; export it again"
        )
