"""The built-in tune: a composed song whose beginning is the demo's prompt. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.composer.render import render
from jukebox_core.composer.score import compose
from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TUNE_SECONDS = 8.0  # default length
TUNE_ARTIST, TUNE_GENRE = "piano and voice", "folk"
TUNE_LYRICS = (
    "Hang a lantern by the gate,\nthe road is long, the hour late.\n"
    "Sing the river, sing the rain,\nsing the summer home again.\n"
)


def tune(seconds: float, rate: int, seed: int = 0) -> NDArray[np.float32]:
    """Returns the first ``seconds`` of the tune of that seed: mono float32 [T] at ``rate`` Hz, within [-1, 1].

    It has any length, with its lyrics repeated, and a shorter tune is a prefix of a longer one.

    Raises:
        AudioError: `seconds` or `rate` is not positive.
    """
    if seconds <= 0 or rate <= 0:
        raise AudioError(f"cannot play {seconds} s at {rate} Hz; both must be positive")
    wanted = int(seconds * rate + 1e-6)
    length = max(seconds, TUNE_SECONDS) + 4.0  # two bars more, as the length is rounded to whole bars
    verses = int(length / 10) + 1  # a verse takes at least 10 s
    score = compose(seed, artist=TUNE_ARTIST, genre=TUNE_GENRE, seconds=length, lyrics=TUNE_LYRICS * verses, ends=False)
    return render(score, rate, level_seconds=TUNE_SECONDS)[:wanted, 0]
