"""Generated lyrics: lines of plain words with an exact number of characters. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_WORDS = {
    "article": "a the my our your one that this every",
    "adjective": "old new long soft low blue gold quiet silver golden open early little winding sleeping morning",
    "noun": (
        "sea sun day way hill moon rain road star wind bell boat gate home light river stone field winter summer "
        "garden harbour lantern morning window evening mountain"
    ),
    "verb": "is sings calls falls goes rests turns waits comes shines wanders follows whispers remembers",
    "place": "by in on at over under above below along around behind beyond across",
}
_KINDS = {kind: words.split() for kind, words in _WORDS.items()}
_SENTENCE = ("article", "adjective", "noun", "verb", "place", "article", "noun")
_FILLERS = ("o", "ah", "oh", "sing", "hey", "again", "hello", "slowly", "forever", "together")


def write_line(rng: np.random.Generator, letters: int) -> str:
    """Returns a line of exactly ``letters`` characters (at least 1), including the blanks between words."""
    words: list[str] = []
    left = letters
    for kind in _cycled(letters):
        if left <= 0:
            break
        fitting = [word for word in _KINDS[kind] if len(word) == left or len(word) < left - 1]
        last = [word for word in fitting if len(word) == left]
        choices = last or fitting
        if not choices or (kind in ("article", "place") and not last and left < 8):
            words.append(_fill(rng, left))
            break
        word = choices[int(rng.integers(len(choices)))]
        words.append(word)
        left -= len(word) + 1
    return " ".join(words)


def _cycled(count: int) -> list[str]:
    return [_SENTENCE[number % len(_SENTENCE)] for number in range(count)]


def _fill(rng: np.random.Generator, letters: int) -> str:
    """Returns fillers for the rest of a line."""
    fitting = [word for word in _FILLERS if len(word) == letters]
    if fitting:
        return fitting[int(rng.integers(len(fitting)))]
    first = _FILLERS[int(rng.integers(3))]
    rest = letters - len(first) - 1
    return f"{first} {_fill(rng, rest)}" if rest > 0 else "o" * letters
