"""Reads and writes audio files. Imports no torch.

Audio is float32 in [-1, 1] at a requested sample rate in Hz: mono [T], or multichannel [T, C].
"""

from __future__ import annotations

import math
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import soundfile
import soxr

from jukebox_core.audio.decoding import decode, duration, estimated_duration
from jukebox_core.audio.sink import Sink
from jukebox_core.base.atomic import atomic_write
from jukebox_core.errors import AudioError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

AudioFormat = Literal["wav", "flac", "mp3"]

_ENCODINGS = {"wav": "PCM_16", "flac": "PCM_16", "mp3": "MPEG_LAYER_III"}
Tag = Literal["title", "artist", "genre", "comment", "copyright", "software"]
_RESAMPLER_RADIUS = 1024  # samples of context on each side that a resampled excerpt depends on


class _Excerpt(NamedTuple):
    """The frames to decode for an excerpt, at the file's own rate."""

    first: int
    frames: int | None  # None: to the end
    skip: int  # samples at the requested rate to drop from the front after resampling


def read_audio(
    path: str | Path, *, rate: int, seconds: float | None = None, offset: float = 0.0
) -> NDArray[np.float32]:
    """Returns a file's audio as mono float32 [T] at ``rate`` Hz: channels are averaged, other rates resampled.

    Args:
        path: a wav, flac, ogg or mp3 file, or any that ffmpeg reads.
        rate: sample rate of the result, in Hz.
        seconds: length; None reads to the end. Only that part of a long file is decoded.
        offset: start, in seconds.

    Raises:
        AudioError: the range is invalid, or the file is missing, a folder, empty, not audio, too short, beyond the
            limits of `decoding`, needs ffmpeg, or holds values that are not finite or far beyond full scale.
    """
    return _read(path, rate, seconds, offset, mono=True)[:, 0]


def read_channels(
    path: str | Path, *, rate: int, seconds: float | None = None, offset: float = 0.0
) -> NDArray[np.float32]:
    """Returns a file's audio as float32 [T, C], with its channels; arguments and errors as of `read_audio`."""
    return _read(path, rate, seconds, offset, mono=False)


def read_whole(path: str | Path, *, rate: int) -> tuple[NDArray[np.float32], float]:
    """Returns a file's audio as of `read_audio`, and its duration in seconds at its own rate, both as decoded."""
    samples_T1, seconds = _decode(Path(path), rate, None, 0.0, mono=True)
    if not len(samples_T1):
        raise AudioError(f"{path} lasts 0.00 s; choose another file")
    return samples_T1[:, 0], audio_seconds(Path(path)) if seconds is None else seconds


def audio_seconds(path: Path) -> float:
    """Returns the duration of an audio file in seconds, counted: its header is not believed.

    Only the last samples are decoded where they show that the header is right, as in most wav, flac, ogg and mp3 files.

    Raises:
        AudioError: the file is missing, a folder, empty or not audio.
    """
    return duration(path)


def estimate_seconds(path: Path) -> float:
    """Returns about how long an audio file lasts, in seconds, without decoding it; AudioError as `audio_seconds`."""
    return estimated_duration(path)


def require_range(path: str | Path, seconds: float | None, offset: float) -> None:
    """Checks that an excerpt starts at 0 or later and is not empty.

    Raises:
        AudioError: it does not, or it is.
    """
    if not 0 <= offset < math.inf or (seconds is not None and not 0 < seconds < math.inf):
        raise AudioError(
            f"cannot read {seconds} s of {path} from {offset} s on; begin at 0 or later and read more than 0 s"
        )


def _read(path: str | Path, rate: int, seconds: float | None, offset: float, *, mono: bool) -> NDArray[np.float32]:
    require_range(path, seconds, offset)
    count = None if seconds is None else math.floor(seconds * rate + 1e-6)
    samples, lasts = _decode(Path(path), rate, count, offset, mono=mono)
    if len(samples) == 0 or (count is not None and len(samples) < count):
        length = "" if seconds is None else f"{seconds:g} s "
        lasts = audio_seconds(Path(path)) if lasts is None else lasts
        raise AudioError(
            f"{path} lasts {lasts:.2f} s, too short to read {length}from {offset:g} s on; "
            "choose a longer file or a shorter excerpt"
        )
    return samples[:count]


def write_audio(
    path: str | Path,
    samples: NDArray[np.floating],
    rate: int,
    format: AudioFormat | None = None,  # noqa: A002
    tags: Mapping[Tag, str] | None = None,
) -> Path:
    """Writes samples, mono [T] or [T, C], clipped to [-1, 1], atomically, as 16-bit wav or flac, or mp3.

    Args:
        path: the file; replaced if it exists.
        samples: at least one sample, one or two channels.
        rate: in Hz.
        format: None takes it from the suffix of ``path``.
        tags: what players show of the file; empty ones are left out. Tags of mp3 are ASCII: accents are left out there.

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
            form = {"format": container.upper(), "subtype": _ENCODINGS[container]}
            channels = 1 if values.ndim == 1 else values.shape[1]
            with soundfile.SoundFile(sink, "w", rate, channels, **form) as sound:
                for name, text in _written_tags(tags or {}, container).items():
                    setattr(sound, name, text)
                sound.write(np.clip(values, -1, 1))
        except (soundfile.SoundFileError, AssertionError) as error:  # the latter after a short write
            if sink.error is None:
                reason = f"cannot write {path} as {container} at {rate} Hz: {error}; choose another format"
                raise AudioError(reason) from error
        if sink.error is not None:
            raise sink.error
    return path


def _decode(
    path: Path, rate: int, count: int | None, offset: float, *, mono: bool
) -> tuple[NDArray[np.float32], float | None]:
    """Returns the excerpt [T, C], shorter than `count` if the file ends, and the file's seconds if its end was seen."""
    start = math.floor(offset * rate + 1e-6)
    found = decode(path, lambda own_rate: _excerpt(own_rate, rate, count, start)[:2], mono=mono)
    samples_TC = found.samples_TC
    if found.rate != rate and len(samples_TC):
        samples_TC = soxr.resample(samples_TC, found.rate, rate, quality="VHQ")
    seconds = None if found.length is None else found.length / found.rate
    return samples_TC[_excerpt(found.rate, rate, count, start).skip :], seconds


def _excerpt(own_rate: int, rate: int, count: int | None, start: int) -> _Excerpt:
    """Returns the frames to decode for ``count`` samples from sample ``start`` on, both at ``rate``.

    A resampled excerpt must equal that part of the whole file resampled, so the frames start where samples of both
    rates coincide, and include the resampler's context.
    """
    if own_rate == rate:
        return _Excerpt(start, count, 0)
    common = math.gcd(own_rate, rate)
    step, own_step = rate // common, own_rate // common
    radius = math.ceil(_RESAMPLER_RADIUS * max(1, rate / own_rate))
    periods = max(0, start - radius) // step
    skip = start - periods * step
    frames = None if count is None else math.ceil((skip + count + radius) * own_rate / rate)
    return _Excerpt(periods * own_step, frames, skip)


def _require_finite(samples: NDArray[np.float32], rate: int, path: Path) -> None:
    broken = ~np.isfinite(samples)
    if broken.any():
        where = float(np.argwhere(broken)[0, 0]) / rate
        raise AudioError(
            f"the audio of {path} has values that are not finite, the first {where:.2f} s in; export it again"
        )


def _written_tags(tags: Mapping[Tag, str], container: str) -> dict[Tag, str]:
    lines = {name: " ".join(text.split()) for name in get_args(Tag) if (text := tags.get(name))}
    if container != "mp3":
        return lines
    # libsndfile writes UTF-8 into frames that it declares to be Latin-1, and knows no copyright there.
    plain = {name: unicodedata.normalize("NFKD", text).encode("ascii", "ignore") for name, text in lines.items()}
    return {name: text.decode() for name, text in plain.items() if text}


def read_tags(path: str | Path) -> dict[Tag, str]:
    """Returns the tags of a wav, flac or mp3 file that `write_audio` writes; AudioError if it cannot be read."""
    try:
        with soundfile.SoundFile(path) as sound:
            return {name: getattr(sound, name) for name in get_args(Tag) if getattr(sound, name)}
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path} has no tags that can be read ({error}); choose a wav, flac or mp3 file") from None
