"""Whole recordings of any length in bounded memory: decoded to a temporary file, and mapped. Imports no torch.

The file has no name: it is gone when the process ends, however it ends.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
import soxr

from jukebox_core.audio.decoding import decode_blocks
from jukebox_core.base.atomic import write_error
from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_QUALITY = "VHQ"  # as `files.read_audio`


class _Resampler(Protocol):
    def resample_chunk(self, chunk: NDArray[np.float32], last: bool = False) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class SpooledAudio:
    """The samples of a recording in a temporary file; pages that were read may be given back to the system."""

    samples: NDArray[np.float32]  # mono [T]
    sha256: str  # of the samples' bytes
    _mapped: mmap.mmap

    def release(self) -> None:
        """Takes the pages that were read out of this process's memory; they are read again when they are needed."""
        self._mapped.madvise(mmap.MADV_DONTNEED)


def spool_audio(path: str | Path, *, rate: int, folder: str | Path | None = None) -> SpooledAudio:
    """Returns a file's audio, mono at `rate` Hz: the samples of `read_audio`, bit for bit.

    Args:
        path: a wav, flac, ogg or mp3 file, or any that ffmpeg reads.
        rate: sample rate of the result, in Hz.
        folder: where the temporary file is made; 4 bytes a sample. By default the system's folder of such files.

    Raises:
        AudioError: the file is missing, a folder, empty, not audio, beyond the limits of `decoding`, needs ffmpeg, or
            holds values that are not finite or far beyond full scale.
        DiskError: the temporary file does not fit on its disk.
    """
    place = Path(tempfile.gettempdir() if folder is None else folder)
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            writer = _Writer(file, rate, place / f"a copy of {Path(path).name}")
            decode_blocks(Path(path), writer.begin)
            count = writer.finish()
            if not count:
                raise AudioError(f"{path} lasts 0.00 s; choose another file")
            mapped = mmap.mmap(file.fileno(), 0)
    except OSError as error:
        raise write_error(place / f"a copy of {Path(path).name}", error) from None
    return SpooledAudio(np.frombuffer(mapped, np.float32, count), writer.sha256, mapped)


class _Writer:
    """Resamples blocks and appends them to a file."""

    def __init__(self, file: BinaryIO, rate: int, name: Path) -> None:
        self._file, self._rate, self._name = file, rate, name
        self._resampler: _Resampler | None = None
        self._hash, self._bytes = hashlib.sha256(), 0

    @property
    def sha256(self) -> str:
        """The digest of what was written since `begin`."""
        return self._hash.hexdigest()

    def begin(self, rate: int) -> Callable[[NDArray[np.float32]], None]:
        """Begins at the start of the file; returns what takes each block at `rate`."""
        self._file.seek(0)
        self._hash, self._bytes = hashlib.sha256(), 0
        same = rate == self._rate
        self._resampler = None if same else soxr.ResampleStream(rate, self._rate, 1, dtype="float32", quality=_QUALITY)
        return self._take

    def finish(self) -> int:
        """Appends what the resampler still holds; returns the number of samples in the file."""
        if self._resampler is not None:
            self._write(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        return self._bytes // 4

    def _take(self, block_T: NDArray[np.float32]) -> None:
        self._write(block_T if self._resampler is None else self._resampler.resample_chunk(block_T))

    def _write(self, samples_T: NDArray[np.float32]) -> None:
        try:
            left = np.ascontiguousarray(samples_T).data.cast("B")
            self._hash.update(left)
            self._bytes += len(left)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise write_error(self._name, error) from None
