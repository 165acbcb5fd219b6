"""Codes files: the tokens of one piece of music, one array a level, in numpy's .npz."""

from __future__ import annotations

import io
import json
import lzma
import re
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.base.atomic import atomic_write
from jukebox_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

LIMIT_BYTES = 400_000_000
"""Bytes of arrays that a codes file may hold: five hours of the finest level of a song at 44,100 Hz."""

_ABOUT = "about"  # the array with the JSON text
_ABOUT_BYTES = 4_000_000  # of that text, four a character
_SUFFIX = ".npy"  # of an array's entry in the archive
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}  # by version
_LEVEL = re.compile(r"level_(\d{1,3})")
_NOT_CODES = (  # what damaged archives, arrays and texts raise
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # an encrypted entry
    SyntaxError,  # of an array's header
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, slots=True)
class Codes:
    """The tokens of one piece of music."""

    levels: Mapping[int, NDArray[np.int32]]  # by level: [time], or a grid [codebooks, time]; each in [0, bins)
    about: Mapping[str, Any]  # model, digest of the codec's weights, sample rate, hops


def write_codes(path: Path, codes: Codes) -> None:
    """Writes a codes file, atomically: arrays ``level_<l>`` int32 [time], and ``about``, a JSON text.

    Raises:
        StoreError: it would be longer than `read_codes` reads.
        DiskError: the file cannot be written.
    """
    arrays: dict[str, Any] = {f"level_{level}": np.asarray(tokens, np.int32) for level, tokens in codes.levels.items()}
    size = sum(array.nbytes for array in arrays.values())
    if size > LIMIT_BYTES:
        raise StoreError(f"{path} would hold {_limit_broken(size)}; give a shorter recording")
    arrays[_ABOUT] = np.array(json.dumps(dict(codes.about)))
    packed = io.BytesIO()  # a zip archive that fails in the middle raises more than the error of its disk
    np.savez_compressed(packed, **arrays)
    with atomic_write(path) as file:
        file.write(packed.getbuffer())


def read_codes(path: Path) -> Codes:
    """Returns the content of a codes file; memory is bounded by `LIMIT_BYTES`, whatever the file says.

    Raises:
        StoreError: the file is missing, damaged, too long, or not a codes file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise StoreError(f"{path} is not a file; give a codes file, such as `jukebox encode` makes")
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename.removesuffix(_SUFFIX): entry for entry in archive.infolist()}
            size = sum(entry.file_size for entry in entries.values())
            if size > LIMIT_BYTES + _ABOUT_BYTES:
                raise StoreError(f"{path} holds {_limit_broken(size)}; give a shorter one")
            about = json.loads(str(_read_array(archive, entries[_ABOUT], np.str_)))
            levels = {
                int(match[1]): _read_array(archive, entry, np.integer)
                for name, entry in entries.items()
                if (match := _LEVEL.fullmatch(name))
            }
    except FileNotFoundError:
        raise StoreError(f"codes file {path} does not exist; `jukebox encode` makes one") from None
    except OSError as error:
        raise StoreError(f"codes file {path} cannot be read ({error.strerror or error}); give one that can") from None
    except _NOT_CODES as error:
        raise StoreError(f"{path} is not a codes file, or is damaged ({error}); `jukebox encode` makes one") from None
    if not isinstance(about, dict):
        raise StoreError(f"{path} is not a codes file: its description is no mapping; `jukebox encode` makes one")
    return Codes(levels, about)


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, kind: type[Any]) -> NDArray[Any]:
    """Returns an array of the archive, checked against the size and the kind that it may have.

    Raises:
        ValueError: it has another kind, or other bytes than its header says.
    """
    limit = _ABOUT_BYTES if kind is np.str_ else LIMIT_BYTES
    if entry.file_size > limit:
        raise ValueError(f"{entry.filename} has {entry.file_size} bytes")
    file = io.BytesIO(archive.read(entry))
    read_header = _HEADERS[np.lib.format.read_magic(file)]
    shape, columns_first, dtype = read_header(file)
    if not np.issubdtype(dtype, kind) or len(shape) > 2 or min(shape, default=0) < 0:
        raise ValueError(f"{entry.filename} has dtype {dtype} and shape {shape}")
    flat = np.frombuffer(file.read(), dtype)
    return flat.reshape(shape, order="F" if columns_first else "C").copy()


def _limit_broken(size: int) -> str:
    return f"{size / 1e6:,.0f} MB of codes, more than the {LIMIT_BYTES / 1e6:,.0f} MB that a codes file may"
