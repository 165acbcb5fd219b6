"""Masks that were drawn by hand: read from files of numbers or images, and as the text that runs store. No torch.

A file has one row for all codebooks, or one for each, the first codebook on top. Numbers are 1 where tokens are
generated, 0 where they are kept, a column for each step. An image, of any size, covers the whole music: what is lighter
than mid-grey is generated.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.base.checks import require
from jukebox_core.base.paths import user_path
from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
TABLES = (".npy", ".csv", ".txt")
_EXACT, _SCALED = "steps", "image"  # whether a column is a step, or the columns cover the music
_TEXT = re.compile(rf"({_EXACT}|{_SCALED}):(\d+)x(\d+):([A-Za-z0-9+/=]*)")
_LARGEST_IMAGE, _LARGEST = 4096, 2**22  # pixels of a side; columns
_SEPARATORS = re.compile(r"[,;\s]+")


def read_drawn(path: str, books: int) -> str:
    """Returns the mask in a file as text, for a grid of `books` codebooks.

    Raises:
        ConfigError: it cannot be read, holds other numbers than 0 and 1, or rows of another number of codebooks.
    """
    file = user_path(path)
    suffix = file.suffix.lower()
    require(
        suffix in (*TABLES, *IMAGES),
        f"file is {path}; a drawn mask is a file {', '.join(TABLES)} or an image {', '.join(IMAGES)}",
    )
    try:
        grid = _image(file) if suffix in IMAGES else _table(file)
    except OSError as error:
        raise ConfigError(f"the mask {path} cannot be read ({error.strerror or error}); correct mask.file") from None
    except (ValueError, EOFError) as error:
        raise ConfigError(
            f"the mask {path} holds no numbers 0 and 1 ({error}); write a row for each codebook"
        ) from None
    if suffix in IMAGES:
        return text_of(grid, scaled=True)
    require(
        grid.shape[0] in (1, books),
        f"the mask {path} has {grid.shape[0]} rows, but the model {books} codebooks; give one row, or one for each",
    )
    return text_of(grid)


def text_of(grid_KT: NDArray[np.bool_], *, scaled: bool = False) -> str:
    """Returns a mask [K, T] as text; `scaled`: its columns cover the music, however many steps that has."""
    packed = base64.b64encode(zlib.compress(np.packbits(grid_KT).tobytes(), 9)).decode()
    return f"{_SCALED if scaled else _EXACT}:{grid_KT.shape[0]}x{grid_KT.shape[1]}:{packed}"


def grid_of(text: str, books: int, steps: int) -> NDArray[np.bool_]:
    """Returns the mask [K, T] of `text` for a grid of `books` codebooks and `steps`.

    Raises:
        ConfigError: it is of other codebooks, longer or shorter, or no text that `text_of` made.
    """
    found = _TEXT.fullmatch(text)
    require(found is not None, "drawn is not a mask as runs store it; name the file that it was drawn in: mask.file")
    assert found is not None
    kind, rows, columns = found[1], int(found[2]), int(found[3])
    require(0 < rows * columns <= _LARGEST * 64, f"drawn is a mask of {rows} x {columns}; draw a smaller one")
    try:
        size = -(-rows * columns // 8)
        plain = zlib.decompressobj().decompress(base64.b64decode(found[4]), size)
        bits = np.unpackbits(np.frombuffer(plain, np.uint8), count=rows * columns)
    except (binascii.Error, zlib.error, ValueError):
        raise ConfigError("drawn is a damaged mask; name the file that it was drawn in: mask.file") from None
    require(len(plain) == size, "drawn is a mask that was cut short; name the file that it was drawn in: mask.file")
    grid = bits.reshape(rows, columns).astype(np.bool_)
    if kind == _SCALED:
        return grid[_nearest(rows, books)][:, _nearest(columns, steps)]
    require(
        rows in (1, books) and columns == steps,
        f"the drawn mask has {rows} x {columns} places, but the codes {books} codebooks x {steps} steps; "
        "draw one of the same shape, or an image, which covers music of any length",
    )
    return np.broadcast_to(grid, (books, steps)).copy()


def _nearest(pixels: int, places: int) -> NDArray[np.int64]:
    """Returns the pixel at the middle of each of `places` equal parts."""
    centres: NDArray[np.int64] = ((2 * np.arange(places, dtype=np.int64) + 1) * pixels) // (2 * places)
    return centres


def _table(file: Path) -> NDArray[np.bool_]:
    numbers: Any
    if file.suffix.lower() == ".npy":
        numbers = np.load(file, allow_pickle=False)
    else:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        numbers = [[float(each) for each in _cells(line)] for line in lines]
        if len({len(row) for row in numbers}) > 1:
            raise ValueError("its rows differ in length")
    grid = np.atleast_2d(np.asarray(numbers))
    if grid.ndim != 2 or not grid.size or grid.dtype.kind not in "biuf":
        raise ValueError(f"its shape is {list(grid.shape)}")
    if grid.shape[1] > _LARGEST:
        raise ValueError(f"it has {grid.shape[1]:,} columns")
    if not np.isin(grid, (0, 1)).all():
        raise ValueError("it holds other numbers")
    return grid.astype(np.bool_)


def _cells(line: str) -> list[str]:
    """Returns the numbers of a line; without separators each character is one."""
    cells = [cell for cell in _SEPARATORS.split(line.strip()) if cell]
    return list(cells[0]) if len(cells) == 1 and set(cells[0]) <= {"0", "1"} else cells


def _image(file: Path) -> NDArray[np.bool_]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            if max(opened.size) > _LARGEST_IMAGE:
                raise ValueError(f"an image has at most {_LARGEST_IMAGE} pixels a side, not {max(opened.size)}")
            return np.asarray(opened.convert("L")) >= 128
    except UnidentifiedImageError:
        raise ValueError("it is no image") from None
