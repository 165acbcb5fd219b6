"""Opens audio files: the one place that decides what is read with which decoder, and within which limits.

Imports no torch. libsndfile decodes wav, aiff, flac, ogg, opus and mp3; what it cannot open, or would not read to the
end, is decoded with ffmpeg. Lengths are counted: a header's promise is checked before it is used (`streams`).
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import stat
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np
import soundfile

from jukebox_core.audio.complaints import complaints
from jukebox_core.audio.ffmpeg import READABLE, ffmpeg_decoder
from jukebox_core.audio.streams import container, mp3_stream, why_not_whole, why_not_whole_mp3
from jukebox_core.errors import AudioError, DiskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

T = TypeVar("T")

log = logging.getLogger("jukebox")

RATES = (1_000, 768_000)  # Hz: lowest and highest sample rate
MOST_CHANNELS = 64
LONGEST_SECONDS = 24 * 3600.0  # that are read at once
LOUDEST = 16.0  # peak; full scale is 1. Floating-point recordings have some headroom, not 24 dB of it
LOUD = 2.0  # peak from which on a warning is given; decoders of lossy formats reach 1.5

_BLOCK = 1 << 20  # frames decoded at once
_BYTES_A_SECOND = 16_000  # of m4a and mp3 files, about
_MOST_PER_BYTE = 1000  # samples that a byte of a compressed file can hold: even silence is not smaller
_TAIL = 1 << 14  # frames read at the end of a file to see that they are there
_NO_SAMPLES = 1024  # bytes; a larger file without samples was not closed by its recorder
_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b".snd", b"caff", b"riff")


class Decoder(Protocol):
    """An open audio file."""

    rate: int
    channels: int

    def blocks(self, first: int, count: int | None = None) -> Iterator[Samples]:
        """Yields the samples [T, C] from frame `first` on: `count` frames, or more; None: to the end of the sound."""
        ...

    def length(self) -> int:
        """Returns the frames of the whole file, counted."""
        ...


class Part(NamedTuple):
    """A part of a file's sound, at the file's own rate."""

    samples_TC: NDArray[np.float32]  # fewer than requested if the sound ends
    rate: int
    length: int | None  # frames of the whole file; None if its end was not reached


class _NotWholeError(Exception):
    """What libsndfile reads of a file is not all of it; the message says why."""


def decode(path: Path, part: Callable[[int], tuple[int, int | None]], *, mono: bool) -> Part:
    """Returns a part of a file's sound.

    Args:
        path: of the file.
        part: receives the file's sample rate in Hz; returns the first frame, and how many (None: to the end).
        mono: whether channels are averaged.

    Raises:
        AudioError: the file is missing, no regular file, empty, not audio, beyond the limits, or needs ffmpeg.
    """
    _require_file(path)
    return _with_decoder(path, lambda decoder: _collect(path, decoder, *part(decoder.rate), mono=mono))


def decode_blocks(path: Path, begin: Callable[[int], Callable[[Samples], None]]) -> None:
    """Decodes all of a file's sound, with averaged channels, in blocks of bounded size.

    Args:
        path: of the file.
        begin: receives the rate in Hz; returns what receives each block [T]. Called again if all blocks come again.

    Raises:
        AudioError: as `decode`.
    """
    _require_file(path)

    def read(decoder: Decoder) -> None:
        take = begin(decoder.rate)
        for block_T1 in _blocks(path, decoder, 0, None, mono=True):
            take(block_T1[:, 0])

    _with_decoder(path, read)


def duration(path: Path) -> float:
    """Returns the seconds of sound in a file, counted; little is decoded if the header's promise can be checked.

    Raises:
        AudioError: as `decode`.
    """
    _require_file(path)
    found = path.stat()
    return _duration(path, found.st_size, found.st_mtime_ns)


def estimated_duration(path: Path) -> float:
    """Returns about how many seconds of sound a file has; of one that needs ffmpeg, a guess from its size.

    Raises:
        AudioError: as `decode`.
    """
    _require_file(path)
    try:
        with _sndfile_decoder(path) as decoder:
            return decoder.length() / decoder.rate
    except _NotWholeError:
        return path.stat().st_size / _BYTES_A_SECOND


@lru_cache(maxsize=4096)
def _duration(path: Path, _size: int, _changed: int) -> float:
    return _with_decoder(path, lambda decoder: decoder.length() / decoder.rate)


def _with_decoder(path: Path, read: Callable[[Decoder], T]) -> T:
    """Returns what `read` finds with libsndfile, or with ffmpeg if libsndfile does not read all of the sound."""
    try:
        with _sndfile_decoder(path) as decoder:
            return read(decoder)
    except _NotWholeError as error:
        why = str(error)
    except DiskError:  # of what `read` writes
        raise
    except OSError as error:
        raise AudioError(f"{path} cannot be read ({error.strerror}); check its permissions and the disk") from None
    with ffmpeg_decoder(path, why) as program:
        _require_limits(path, program.rate, program.channels)
        return read(program)


def _collect(path: Path, decoder: Decoder, first: int, count: int | None, *, mono: bool) -> Part:
    """Returns `count` frames from frame `first` on, with every sample checked."""
    parts = list(_blocks(path, decoder, first, count, mono=mono))
    have = sum(map(len, parts))
    samples_TC = np.concatenate(parts) if parts else np.zeros((0, 1 if mono else decoder.channels), np.float32)
    return Part(samples_TC, decoder.rate, first + have if have and have != count else None)


def _blocks(path: Path, decoder: Decoder, first: int, count: int | None, *, mono: bool) -> Iterator[Samples]:
    """Yields `count` frames from frame `first` on in blocks [T, C], with every sample checked."""
    have = 0
    for block_TC in decoder.blocks(first, count):
        taken_TC = block_TC if count is None else block_TC[: count - have]
        _require_sane(path, taken_TC, first + have, decoder.rate)
        have += len(taken_TC)
        _require_short(path, have, decoder.rate)
        yield taken_TC.mean(axis=1, dtype=np.float32, keepdims=True) if mono else taken_TC
        if have == count:
            return


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """A file in which soundfile does not seek after every read: lossy decoders may then give other samples."""

    def seekable(self) -> bool:
        return False


class _SndfileDecoder:
    """A file that libsndfile reads to its end."""

    def __init__(self, path: Path, file: soundfile.SoundFile) -> None:
        self._path, self._file = path, file
        self.rate: int = file.samplerate
        self.channels: int = file.channels

    def blocks(self, first: int, count: int | None = None) -> Iterator[Samples]:
        """Yields the samples from frame `first` on; _NotWholeError if they end before the promised length."""
        place = min(first, self._file.frames)
        stop = self._file.frames if count is None else min(place + count, self._file.frames)
        _require_short(self._path, stop - place, self.rate)
        with _reading(self._path, self._file.format):
            self._file.seek(place)
        while place < stop:
            with _reading(self._path, self._file.format):
                block_TC = self._file.read(min(_BLOCK, stop - place), dtype="float32", always_2d=True)
            if not len(block_TC):
                self._require_promised(place)
                break
            place += len(block_TC)
            yield block_TC

    def length(self) -> int:
        """Returns the frames of the file, counted from its last ones; _NotWholeError if these are missing."""
        first: int = max(0, self._file.frames - _TAIL)
        with _reading(self._path, self._file.format):
            self._file.seek(first)
            tail = len(self._file.read(_TAIL, dtype="float32", always_2d=True))
        if tail or not first:
            self._require_promised(first + tail)
            return first + tail
        return sum(len(block) for block in self.blocks(0))

    def _require_promised(self, have: int) -> None:
        # The tag of an mp3 file may promise a little more than it holds.
        if have < self._file.frames and self._file.format != "MP3":
            raise _NotWholeError(f"its header promises {self._file.frames} samples, and {have} can be decoded")


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Turns libsndfile's errors of a damaged file into _NotWholeError, and those of libmpg123 into one warning."""
    try:
        with complaints(expected=kind == "MP3") as found:
            yield
        if found:
            _warn_damaged(path, found[0])
    except (soundfile.SoundFileError, OSError, MemoryError) as error:
        raise _NotWholeError(f"it is damaged; libsndfile: {_said(error)}") from None


@contextmanager
def _sndfile_decoder(path: Path) -> Iterator[_SndfileDecoder]:
    """Opens a file with libsndfile.

    Raises:
        AudioError: the file cannot be opened, or has a header beyond the limits.
        _NotWholeError: libsndfile cannot open it, or would not read all of its sound.
    """
    with _opened(path) as (source, is_mp3):
        try:
            with complaints(expected=is_mp3):
                file = _Sequential(source, closefd=False)
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            raise _NotWholeError(f"libsndfile: {_said(error)}") from None
        with file:
            _require_limits(path, file.samplerate, file.channels)
            why = why_not_whole(path, file.format, file.frames)
            size = path.stat().st_size
            if file.frames > _MOST_PER_BYTE * size:
                why = f"its header promises {file.frames} samples, far more than {size} bytes hold"
            if file.frames == 0 and size > _NO_SAMPLES:
                why = "its header promises no samples, as if its recorder had been cut off"
            if why is not None:
                raise _NotWholeError(why)
            yield _SndfileDecoder(path, file)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[io.RawIOBase | int, bool]]:
    """Gives a file without its name, so that its content alone says what it is, and whether it is an mp3 file.

    Of an mp3 file with other bytes around its frames it gives the frames alone: libmpg123 takes the rest for damage.
    """
    magic = container(path)
    stream = mp3_stream(path) if magic not in _MAGIC else None
    if stream is not None:
        why = why_not_whole_mp3(stream)
        if why is not None:
            raise _NotWholeError(why)
    elif magic[:3] == b"ID3" or magic[:1] == b"\xff":
        raise _NotWholeError("it begins like an mp3 file, and no sequence of mp3 frames follows")
    with path.open("rb", buffering=0) as file:
        if stream is None:
            yield file.fileno(), False
        elif magic[:1] == b"\xff" and stream.stop == os.fstat(file.fileno()).st_size:  # frames, and ID3 before them
            yield file.fileno(), True
        else:
            yield _Slice(file, stream.start, stream.stop), True


class _Slice(io.RawIOBase):
    """The bytes [start, stop) of a file, with the methods that soundfile uses."""

    def __init__(self, file: io.FileIO, start: int, stop: int) -> None:
        self._file, self._start, self._size, self._place = file, start, stop - start, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._place)]  # type: ignore[arg-type]
        self._file.seek(self._start + self._place)
        count = self._file.readinto(view) or 0
        self._place += count
        return count


def _require_file(path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise AudioError(f"audio file {path} does not exist; correct the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise AudioError(f"audio file {str(path)[:200]!r} cannot be opened ({reason}); correct the path") from None
    if stat.S_ISDIR(found.st_mode):
        raise AudioError(f"{path} is a folder, not an audio file; name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise AudioError(f"{path} is a device or a pipe, not an audio file; copy its sound into a file")
    if not found.st_size:
        raise AudioError(f"audio file {path} is empty; choose another one")
    try:
        _require_no_text(path)
    except OSError as error:
        raise AudioError(f"{path} cannot be read ({error.strerror}); check its permissions and the disk") from None


def _require_limits(path: Path, rate: int, channels: int) -> None:
    """Checks what a header says before a size is computed from it."""
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"{path} has a sample rate of {rate} Hz by its header; {RATES[0]} to {RATES[1]} Hz can be read: "
            "correct the header, or export it again"
        )
    if not 1 <= channels <= MOST_CHANNELS:
        raise AudioError(
            f"{path} has {channels} channels by its header; 1 to {MOST_CHANNELS} can be read: "
            "correct the header, or export it again"
        )


def _require_short(path: Path, frames: int, rate: int) -> None:
    if frames > LONGEST_SECONDS * rate:
        raise AudioError(
            f"{path}: more than {LONGEST_SECONDS / 3600:g} hours cannot be read at once; cut it into shorter files"
        )


def _require_sane(path: Path, samples_TC: NDArray[np.float32], first: int, rate: int) -> None:
    """Checks that samples are finite and near full scale; a warning from `LOUD` on, an error from `LOUDEST` on."""
    peak = float(np.abs(samples_TC).max(initial=0.0))
    if peak <= LOUD:
        return
    if not np.isfinite(peak):
        place = first + int(np.argwhere(~np.isfinite(samples_TC))[0, 0])
        raise AudioError(
            f"the audio of {path} has values that are not finite, the first {place / rate:.2f} s in; export it again"
        )
    if peak > LOUDEST:
        raise AudioError(
            f"{path} has a peak of {peak:.5g}, and full scale is 1: its values seem to be integers stored as floating "
            "point; scale them to -1 to 1, or export it again"
        )
    _warn_loud(path)


@lru_cache(maxsize=4096)  # one line a file
def _warn_loud(path: Path) -> None:
    log.warning("%s: samples beyond %g times full scale; it will sound distorted, so scale it down", path, LOUD)


@lru_cache(maxsize=4096)  # one line a file
def _warn_damaged(path: Path, error: str) -> None:
    log.warning("%s has damaged frames, which are silent or distorted (libmpg123: %s)", path, error)


def _require_no_text(path: Path) -> None:
    """Checks that a file is not plainly something else, which no decoder needs to see (playlists name other files)."""
    with path.open("rb") as file:
        start = file.read(4096)
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)  # a character may be cut at the end
    except UnicodeDecodeError:
        return
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        what = "it is a web page, perhaps in place of a download that failed"
    elif not text.strip("\0"):
        what = "it begins with nothing but zeros, perhaps a download that failed"
    elif all(each.isprintable() or each in "\ufeff\t\r\n\f" for each in text):
        what = "it is text"
    else:
        return
    raise AudioError(f"{path} is not audio that can be read: {what}; give {READABLE}")


def _said(error: Exception) -> str:
    return str(getattr(error, "error_string", None) or error).rstrip(". ") or "no reason given"
