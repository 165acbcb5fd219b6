"""How well weights follow a text, and every file that is made of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from jukebox_core.alignment.config import AlignmentConfig
from jukebox_core.alignment.export import alignment_paths, read_text, write_files
from jukebox_core.alignment.pictures import animation, picture
from jukebox_core.alignment.times import Alignment

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TEXT = "over the water, over the hill"
ROWS = 200


def weights(columns: NDArray[np.float64] | None) -> NDArray[np.float32]:
    """Weights on one column for each row, or noise."""
    if columns is None:
        return np.random.default_rng(0).random((ROWS, len(TEXT)), np.float32)
    made = np.full((ROWS, len(TEXT)), 1e-3, np.float32)
    made[np.arange(ROWS), columns.astype(int)] = 1
    return made


FORWARDS = np.linspace(0, len(TEXT) - 1, ROWS)


@pytest.mark.parametrize(
    ("columns", "least", "most"),
    [
        (FORWARDS, 0.7, 1),
        (FORWARDS[::-1], -1, -0.7),
        (np.full(ROWS, 12.0), -1e-9, 1e-9),  # a head that rests
        (None, -0.1, 0.1),
    ],
    ids=["forwards", "backwards", "resting", "noise"],
)
def test_focus_is_high_only_where_the_text_is_followed(
    columns: NDArray[np.float64] | None, least: float, most: float
) -> None:
    assert least <= Alignment(text=TEXT, weights=weights(columns), row_seconds=0.1).focus() <= most


def test_nothing_has_no_focus() -> None:
    assert Alignment(text=TEXT, weights=np.zeros((3, len(TEXT)), np.float32), row_seconds=0.1).focus() == 0
    assert Alignment(text="", weights=np.zeros((3, 0), np.float32), row_seconds=0.1).focus() == 0


def test_every_file_is_written_under_its_name(tmp_path: Path) -> None:
    alignment = Alignment(text=TEXT, weights=weights(FORWARDS), row_seconds=0.5)
    config = AlignmentConfig(formats=("json", "srt"), matrix=True, upstream=True)
    paths = write_files(alignment, config, tmp_path / "sample_0")
    assert paths == alignment_paths(config, tmp_path / "sample_0")
    endings = ["json", "srt", "npy", "align.json", "align.png", "lyrics.json"]
    assert [path.name for path in paths] == [f"sample_0.{ending}" for ending in endings]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    found = read_text(paths[0])
    assert (found.text, list(found.words)) == (TEXT, alignment.words())
    assert json.loads(paths[0].read_text())["focus"] == pytest.approx(alignment.focus(), abs=1e-4)
    np.testing.assert_array_equal(np.load(paths[2]), alignment.weights)
    assert json.loads(paths[3].read_text()) == animation(alignment.weights).tolist()
    with Image.open(paths[4]) as drawn:
        np.testing.assert_array_equal(np.asarray(drawn), picture(alignment.weights))
    assert json.loads(paths[5].read_text()) == ["", *TEXT[:-1]]


def test_a_song_of_a_few_codes_without_words_has_files_too() -> None:
    empty = np.zeros((3, 0), np.float32)
    assert picture(empty).shape == (512, 1024)
    assert animation(empty).shape == (1, 1)
