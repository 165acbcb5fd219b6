"""What compressed audio files hold, found without decoding, where their headers promise it wrongly. Imports no torch.

An mp3 file has no length: decoders take it from a tag that encoders may write, or guess it from the first frame. FLAC
and Ogg files state or imply one length, but files are joined, streamed and cut. libsndfile stops where the promise
ends; `why_not_whole` says for which files that is not the end of the sound.
"""

from __future__ import annotations

import mmap
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Bytes = bytes | mmap.mmap

# Bits per second / 1000 by index, for MPEG 1 (layers I, II, III), then for MPEG 2 and 2.5 (layer I, layers II and III).
_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)
_IN_A_ROW = 3  # frames that must follow each other before bytes count as a beginning, not as chance
_SHORTER = 4  # frames that a decoder leaves out: a tag, and the encoder's padding at both ends
_LONGER = 1.01  # times what a file holds that its tag may promise; libmpg123 complains above
_FLAC_MAGIC = b"fLaC\x00\x00\x00\x22"
_SEARCHED = 1 << 24  # bytes of a file that are searched at once
_FLAC_TRIES = 4096  # places near a FLAC file's end that may look like a frame


class Mp3Tag(NamedTuple):
    """What the tag in the first frame of an mp3 file promises (Xing, Info)."""

    frames: int
    size: int | None  # bytes; None if it says nothing of them


class Mp3Stream(NamedTuple):
    """The frames of an mp3 file."""

    samples: int  # of all complete frames, with those that a decoder leaves out at both ends
    frame: int  # samples of a frame
    start: int  # offset in bytes of the first frame
    stop: int  # offset at which the last frame ends; tags may follow
    broken: bool  # whether more frames follow after other bytes: a damaged file, or several in one
    tag: Mp3Tag | None


class _Frame(NamedTuple):
    size: int  # bytes
    samples: int


def mp3_stream(path: Path) -> Mp3Stream | None:
    """Returns the frames of an mp3 file, whatever its tag says; None if it has none that can be followed.

    Raises:
        OSError: the file cannot be read.
    """
    found = path.stat()
    return _mp3_stream(path, found.st_size, found.st_mtime_ns)


def why_not_whole(path: Path, kind: str, promised: int) -> str | None:
    """Returns why a file's promised length is not the end of its sound; None if it is, as far as can be seen.

    Args:
        path: an audio file.
        kind: its format by libsndfile's name, such as "MP3".
        promised: samples of each channel, as libsndfile found or guessed them.

    Raises:
        OSError: the file cannot be read.
    """
    if kind == "MP3":
        stream = mp3_stream(path)
        return None if stream is None else _too_few(stream, promised)
    found = path.stat()
    if kind == "FLAC":
        return _why_not_whole_flac(path, promised, found.st_size, found.st_mtime_ns)
    if kind == "OGG":
        return _why_not_whole_ogg(path, found.st_size, found.st_mtime_ns)
    return None


def why_not_whole_mp3(stream: Mp3Stream) -> str | None:
    """Returns the same of an mp3 file before it is opened: by its frames, and by its tag if it has one."""
    if stream.broken:
        return "its mp3 frames are interrupted: it is damaged, or several files in one"
    if stream.tag is None:
        return None
    promised, size = stream.tag.frames * stream.frame, stream.stop - stream.start
    # Many encoders promise a little more sound than they write; that nothing is missing is seen by the bytes.
    beyond = stream.tag.size / size if stream.tag.size else promised / stream.samples
    if promised > stream.samples - stream.frame and beyond > _LONGER:
        return f"its header promises {promised} samples, and it holds {stream.samples}: it was cut off"
    return _too_few(stream, promised)


def _too_few(stream: Mp3Stream, promised: int) -> str | None:
    if promised < stream.samples - _SHORTER * stream.frame:
        return f"its header promises {promised} samples, and it holds {stream.samples}"
    return None


def container(path: Path) -> bytes:
    """Returns the four bytes that name a file's format, those after an ID3v2 tag; b"ID3" stays if nothing follows.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(10)
        while head[:3] == b"ID3" and len(head) == 10:
            file.seek(_id3_size(head), 1)
            head = file.read(10) or b"ID3"
    return head[:4]


# The answers below are kept: training reads thousands of excerpts of the same files.


@lru_cache(maxsize=4096)
def _mp3_stream(path: Path, size: int, _changed: int) -> Mp3Stream | None:
    with _mapped(path, size) as data:
        first = _mp3_start(data, _after_id3(data))
        if first is None:
            return None
        position, samples, frame = first, 0, _mp3_frame(data[first : first + 4])
        longest, like = 0, data[first : first + 4]
        while frame is not None and position + frame.size <= size:
            samples, longest = samples + frame.samples, frame.samples
            position += frame.size
            header = data[position : position + 4]
            frame = _mp3_frame(header) if _alike(header, like) else None
        # A last frame that is cut short leaves its header here; with `_IN_A_ROW` frames more, the file goes on.
        follows = _mp3_start(data, position) if frame is None else None
        return Mp3Stream(samples, longest, first, position, follows is not None, _mp3_tag(data[first : first + 200]))


@lru_cache(maxsize=4096)
def _why_not_whole_flac(path: Path, promised: int, size: int, _changed: int) -> str | None:
    with _mapped(path, size) as data:
        start = data.find(_FLAC_MAGIC)
        if start < 0:
            return None
        if _find(data, _FLAC_MAGIC, start + 1) >= 0:
            return "it is several FLAC files in one"
        last = next(_flac_frames_from_the_end(data, start), None)
    if last is not None and last >= promised:
        return f"its header promises {promised} samples, and a frame begins at sample {last}"
    return None


@lru_cache(maxsize=4096)
def _why_not_whole_ogg(path: Path, size: int, _changed: int) -> str | None:
    with _mapped(path, size) as data:
        first_page_of_sound = data.find(b"OggS\x00\x00")
        if first_page_of_sound >= 0 and _find(data, b"OggS\x00\x02", first_page_of_sound) >= 0:
            return "it is several Ogg files in one"
    return None


class _mapped:  # noqa: N801  a context manager, used like a function
    """The bytes of a file; empty bytes for an empty one."""

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size

    def __enter__(self) -> Bytes:
        with self._path.open("rb") as file:
            self._data: Bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._size else b""
        return self._data

    def __exit__(self, *_: object) -> None:
        if isinstance(self._data, mmap.mmap):
            self._data.close()


def _find(data: Bytes, what: bytes, start: int) -> int:
    """Returns the first place of `what` from `start` on, -1 without one; pages that were searched leave the memory."""
    for first in range(start, len(data), _SEARCHED):
        found = data.find(what, first, first + _SEARCHED + len(what) - 1)
        if found >= 0:
            return found
        if isinstance(data, mmap.mmap):
            data.madvise(mmap.MADV_DONTNEED)
    return -1


def _after_id3(data: Bytes) -> int:
    """Returns the offset after the ID3v2 tags at the beginning."""
    position = 0
    while data[position : position + 3] == b"ID3" and position + 10 <= len(data):
        position += 10 + _id3_size(data[position : position + 10])
    return position


def _id3_size(header: bytes) -> int:
    """Returns the bytes of an ID3v2 tag after its header of 10 bytes."""
    size = 0
    for byte in header[6:10]:
        size = size << 7 | byte & 0x7F
    return size


def _mp3_tag(frame: bytes) -> Mp3Tag | None:
    """Returns the tag in a file's first frame; None without one that counts frames."""
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    if place < 0 or len(frame) < place + 16 or not frame[place + 7] & 1:
        return None
    frames, size = (int.from_bytes(frame[at : at + 4], "big") for at in (place + 8, place + 12))
    return Mp3Tag(frames, size if frame[place + 7] & 2 else None)


def _mp3_start(data: Bytes, position: int) -> int | None:
    """Returns the first offset from `position` on at which `_IN_A_ROW` frames of one kind follow each other."""
    for match in _SYNC.finditer(data, position):
        start = place = match.start()
        like = data[start : start + 4]
        for _ in range(_IN_A_ROW):
            header = data[place : place + 4]
            frame = _mp3_frame(header) if _alike(header, like) else None
            if frame is None or place + frame.size > len(data):
                break
            place += frame.size
        else:
            return start
    return None


# The first bytes of a frame: 11 bits of ones, no reserved version, layer, bit rate or sample rate.
_SYNC = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x10-\xeb]", re.DOTALL)


def _alike(header: bytes, like: bytes) -> bool:
    """Returns whether two frames have the same version, layer and sample rate, and are both mono or both stereo."""
    if len(header) < 4 or header[0] != 0xFF or (header[1] ^ like[1]) & 0xFE or (header[2] ^ like[2]) & 0x0C:
        return False
    return (header[3] >> 6 == 3) == (like[3] >> 6 == 3)


def _mp3_frame(header: bytes) -> _Frame | None:
    """Returns the size and the samples of the frame with this header of 4 bytes; None if it is no header."""
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = {3: 1.0, 2: 2.0, 0: 2.5}.get(header[1] >> 3 & 3), 4 - (header[1] >> 1 & 3)
    bits, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version is None or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    hertz = _RATES[rate] // {1.0: 1, 2.0: 2, 2.5: 4}[version]
    speed = _BITRATES[1 if version == 1 else 2, layer][bits - 1] * 1000
    if layer == 1:
        return _Frame((12 * speed // hertz + padding) * 4, 384)
    samples = 576 if layer == 3 and version != 1 else 1152
    return _Frame(samples // 8 * speed // hertz + padding, samples)


def _flac_frames_from_the_end(data: Bytes, start: int) -> Iterator[int]:
    """Yields the positions in samples of the last FLAC frames, last one first, of those shaped like the first."""
    first = _flac_audio(data, start)
    shape, stop = data[first : first + 3], len(data)
    if len(shape) < 3 or shape[0] != 0xFF or shape[1] & 0xFE != 0xF8:
        return
    smallest = int.from_bytes(
        data[start + 8 : start + 10], "big"
    )  # of the blocks, in samples; all have it where sizes are fixed
    for _ in range(_FLAC_TRIES):
        stop = data.rfind(shape, first, stop + 2)
        if stop < 0:
            return
        number = _flac_number(data[stop : stop + 16])
        if number is not None:
            yield number if shape[1] & 1 else number * smallest


def _flac_audio(data: Bytes, start: int) -> int:
    """Returns the offset of the first frame of a FLAC file, after its metadata."""
    position, last = start + 4, False
    while not last and position + 4 <= len(data):
        last = bool(data[position] & 0x80)
        position += 4 + int.from_bytes(data[position + 1 : position + 4], "big")
    return position


def _flac_number(header: bytes) -> int | None:
    """Returns the number in a FLAC frame's header, of the frame or of its first sample; None if it is no header."""
    if len(header) < 16:
        return None
    lead = header[4]
    more = next((bit for bit in range(8) if not lead & 0x80 >> bit), 8)  # leading ones, as in UTF-8
    length = max(1, more)
    if more in (1, 8):
        return None
    number = lead & 0x7F >> more
    for byte in header[5 : 4 + length]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 0x3F
    block, rate = header[2] >> 4, header[2] & 15
    stop = 4 + length + {6: 1, 7: 2}.get(block, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    check = 0
    for byte in header[:stop]:
        check ^= byte
        for _ in range(8):
            check = (check << 1 ^ 7 if check & 0x80 else check << 1) & 0xFF
    return number if check == header[stop] else None
