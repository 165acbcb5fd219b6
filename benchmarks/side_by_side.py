"""Pictures of two columns: what is real on the left, what a model made of it, or instead of it, on the right."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from jukebox_core.audio.pictures import spectrogram_png

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def side_by_side(pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]], rate: int, path: Path) -> None:
    """Writes the spectrograms of pairs of sounds, a pair a row, to a PNG file."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = [[_drawn(sound, rate, Path(folder) / "one.png") for sound in pair] for pair in pairs]
    width, height = drawn[0][0].size
    whole = Image.new("P", (2 * width, height * len(drawn)))
    palette = drawn[0][0].getpalette()
    assert palette is not None
    whole.putpalette(palette)
    for row, pictures in enumerate(drawn):
        for column, picture in enumerate(pictures):
            whole.paste(picture, (column * width, row * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save(path, format="png", optimize=True)


def _drawn(sound: NDArray[np.float32], rate: int, path: Path) -> Image.Image:
    spectrogram_png(sound, rate, path)
    with Image.open(path) as picture:
        return picture.copy()
