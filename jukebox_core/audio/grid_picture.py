"""Pictures of grids of codes: a row for each codebook, a colour for each code. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.audio.pictures import COLUMNS, caption, panel, save
from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_ROW = 16  # pixels of a codebook
_SHADES = 64  # of the colours: neighbouring codes may share one
_COVERED = (0.227, 0.204, 0.267)  # of tokens that are generated: the grid's colour


def grid_png(
    codes_KT: NDArray[np.integer[Any]],
    bins: int,
    seconds: float,
    path: Path,
    *,
    generated_KT: NDArray[np.bool_] | None = None,
    title: str = "codebook",
) -> None:
    """Writes a picture of codes to ``path``, the first codebook on top, with the time axis of the other pictures.

    Grids of more steps than columns of the picture show one step of each column.

    Args:
        codes_KT: the codes.
        bins: codes are from 0 to this, exclusive.
        seconds: their duration.
        path: the PNG file to write.
        generated_KT: tokens that are covered, as a mask generates them; None: none.
        title: what the rows are.

    Raises:
        AudioError: no codes, or a mask of another shape.
        DiskError: the file cannot be written.
    """
    if codes_KT.ndim != 2 or not codes_KT.size:
        raise AudioError(f"codes have shape {list(codes_KT.shape)}; a picture needs [codebooks, tokens], not empty")
    if generated_KT is not None and generated_KT.shape != codes_KT.shape:
        raise AudioError(f"the mask has shape {list(generated_KT.shape)}; it must be {list(codes_KT.shape)}")
    books, steps = codes_KT.shape
    columns = np.linspace(0, steps, min(steps, 2 * COLUMNS), endpoint=False).astype(np.int64)
    shades_KN3 = _colours()[codes_KT[:, columns] * _SHADES // bins]
    if generated_KT is not None:
        shades_KN3[generated_KT[:, columns]] = _COVERED
    height = _ROW * max(books, 2)
    figure, axes = panel(height=height + 106, plot_height=height, seconds=seconds)
    axes.imshow(
        shades_KN3, origin="upper", aspect="auto", interpolation="nearest", extent=(0, seconds, books, 0)
    )  # fmt: skip
    marks = sorted({0, books - 1})
    axes.set_yticks([each + 0.5 for each in marks], [str(each + 1) for each in marks])
    caption(figure, title)
    save(figure, path)


def _colours() -> NDArray[np.float64]:
    """Returns the RGB colour of each shade."""
    from matplotlib import colormaps  # imported late: it takes half a second

    found: NDArray[np.float64] = colormaps["magma"](np.linspace(0.25, 1, _SHADES))[:, :3]
    return found
