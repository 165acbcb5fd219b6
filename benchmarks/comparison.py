"""Comparison pictures: spectrograms of original audio on the left, reconstructed or generated audio on the right."""

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


def comparison_png(pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]], rate: int, path: Path) -> None:
    """Writes the spectrograms of pairs of audio, one pair per row, to a PNG file; audio is float32 [T] at `rate` Hz."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = [[_spectrogram(audio, rate, Path(folder) / "one.png") for audio in pair] for pair in pairs]
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


def _spectrogram(audio: NDArray[np.float32], rate: int, path: Path) -> Image.Image:
    spectrogram_png(audio, rate, path)
    with Image.open(path) as picture:
        return picture.copy()
