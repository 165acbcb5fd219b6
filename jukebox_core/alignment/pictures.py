"""A matrix of weights as grey levels, in the two sizes of upstream's page (docs/upstream.md, Alignment).

Shape suffixes: R rows (codes of the music), C columns (characters of the text).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jukebox_core.alignment.times import Weights

    Grey = NDArray[np.uint8]

ROWS = 16  # of the matrix for one of `animation`
_PICTURE = (512, 1024)  # characters, time
_BLUR = 1.5


def shown_columns(weights_RC: Weights) -> int:
    """Returns how many columns are shown: those up to the last with a weight, at least one."""
    attended = np.flatnonzero(weights_RC.any(axis=0))
    return int(attended[-1]) + 1 if len(attended) else 1


def shown_characters(text: str, weights_RC: Weights) -> list[str]:
    """Returns the character that each shown column is about; the first column is about none."""
    return ["", *text][: shown_columns(weights_RC)]


def picture(weights_RC: Weights) -> Grey:
    """Returns the matrix as a picture, uint8 [512, 1024]: time to the right, the first character at the bottom."""
    return np.rot90(_resized(_grey(weights_RC), _PICTURE))


def animation(weights_RC: Weights) -> Grey:
    """Returns a row for 16 rows of the matrix, blurred, uint8 [max(1, R // 16), C]: what upstream's page plays."""
    grey_RC = _grey(weights_RC)
    rows, columns = grey_RC.shape
    small = Image.fromarray(_resized(grey_RC, (columns, max(1, rows // ROWS))))
    return np.asarray(small.filter(ImageFilter.GaussianBlur(_BLUR)), np.uint8)


def _grey(weights_RC: Weights) -> Grey:
    """Returns the shown columns as uint8; a text without characters has one column of zeros."""
    shown_RC = weights_RC[:, : shown_columns(weights_RC)] if weights_RC.shape[1] else np.zeros((len(weights_RC), 1))
    return np.asarray(np.floor(255 * np.clip(shown_RC, 0, 1)), np.uint8)


def _resized(grey_RC: Grey, size: tuple[int, int]) -> Grey:
    return np.asarray(Image.fromarray(grey_RC).resize(size, Image.Resampling.BICUBIC), np.uint8)
