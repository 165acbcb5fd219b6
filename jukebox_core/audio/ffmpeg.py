"""Decodes audio with the program ffmpeg: files that libsndfile cannot read, or not to their end. Imports no torch.

A program, not a library: a damaged file that crashes a decoder ends a process of its own, and the samples are those of
``ffmpeg`` by construction. It is the one on the PATH; without one, that of the package imageio-ffmpeg.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import numpy as np

from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

READABLE = "a wav, flac, ogg, mp3 or m4a file"
INSTALL_FFMPEG = "install ffmpeg, or `pip install 'jukebox-pipelines[audio]'`"

_PATIENCE = 60.0  # seconds without a sample after which ffmpeg hangs
_BLOCK = 1 << 18  # bytes read at once
_HEADER = 24  # bytes of the AU format that ffmpeg writes: magic, offset of the sound, size, encoding, rate, channels


class FFmpegDecoder:
    """The sound of a file as ffmpeg decodes it, from the beginning on."""

    def __init__(self, path: Path, output: IO[bytes], errors: IO[bytes]) -> None:
        """Waits for the first samples.

        Args:
            path: the file, for messages.
            output: of ffmpeg: AU with 32-bit floats.
            errors: a seekable file with its messages.

        Raises:
            AudioError: ffmpeg found no sound in the file.
        """
        self._path, self._output, self._errors = path, output, errors
        header = self._read(_HEADER)
        if len(header) < _HEADER:
            raise AudioError(f"{path} is not audio that can be read (ffmpeg: {self._reason()}); give {READABLE}")
        offset, _, _, self.rate, self.channels = np.frombuffer(header[4:], ">u4").tolist()
        self._read(offset - _HEADER)

    def blocks(self, first: int, _count: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Yields the samples [T, C] from frame `first` on; those before it are decoded too, and dropped."""
        size, skip = 4 * self.channels, first
        while data := self._read(_BLOCK // size * size or size):
            block_TC = np.frombuffer(data[: len(data) // size * size], ">f4").astype(np.float32)
            block_TC = block_TC.reshape(-1, self.channels)
            skipped = min(skip, len(block_TC))
            skip -= skipped
            if skipped < len(block_TC):
                yield block_TC[skipped:]

    def length(self) -> int:
        """Returns the frames of the whole file; all of it is decoded."""
        return sum(len(block_TC) for block_TC in self.blocks(0))

    def _read(self, count: int) -> bytes:
        """Returns the next `count` bytes, fewer at the end."""
        parts, missing = [], count
        while missing:
            if not select.select([self._output], [], [], _PATIENCE)[0]:
                raise AudioError(f"ffmpeg gave no sample of {self._path} in {_PATIENCE:g} s; export it as a wav file")
            part = os.read(self._output.fileno(), missing)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _reason(self) -> str:
        self._errors.seek(0)
        lines = [line for line in self._errors.read(10_000).decode(errors="replace").splitlines() if line.strip()]
        said = lines[0].rpartition("] ")[2] if lines else "it holds no sound"
        return said.replace(f"file:{self._path.absolute()}", "the file")[:200]


@contextmanager
def ffmpeg_decoder(path: Path, why: str) -> Iterator[FFmpegDecoder]:
    """Gives the decoder of a regular file; the process ends with the block.

    Args:
        path: the file.
        why: the reason for not using libsndfile, for the message if there is no ffmpeg.

    Raises:
        AudioError: there is no ffmpeg, or it finds no sound in the file.
    """
    program = ffmpeg_program()
    if program is None:
        raise AudioError(f"{path} cannot be read without ffmpeg ({why}); {INSTALL_FFMPEG}, or export it as a wav file")
    # "file:" and the whitelist keep names from being addresses, and playlists from opening connections.
    command = [
        program, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i", f"file:{path.absolute()}",
        "-vn", "-sn", "-dn", "-c:a", "pcm_f32be", "-map_metadata", "-1", "-f", "au", "pipe:1",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603  no shell, and the path is one argument
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, bufsize=0
        )
        try:
            assert process.stdout is not None
            yield FFmpegDecoder(path, process.stdout, errors)
        finally:
            process.kill()
            process.communicate()


def ffmpeg_program() -> str | None:
    """Returns the path of ffmpeg: the one on the PATH, else that of the package imageio-ffmpeg, else None."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:  # a platform for which the package brings no program
        return None
