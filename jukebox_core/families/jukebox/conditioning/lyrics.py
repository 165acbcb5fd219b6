"""Lyrics as character tokens, and the part that conditions a window (docs/upstream.md, Lyrics). Imports no torch."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from jukebox_core.errors import ConfigError, LabelError

if TYPE_CHECKING:
    from collections.abc import Sequence

PADDING = 0  # the padding token; its text is empty
PADDING_INDEX = -1  # position in the lyrics of a padding token
_BEFORE_PLUS = string.ascii_uppercase + string.ascii_lowercase + string.digits + ".,:;!?-"
_AFTER_PLUS = "'\"()[] \t\n"


@dataclass(frozen=True, slots=True)
class Alphabet:
    """The characters of a prior's lyrics, in the order of their tokens, which count from 1."""

    characters: str

    @property
    def size(self) -> int:
        """Number of tokens, padding included."""
        return len(self.characters) + 1

    def clean(self, lyrics: str) -> str:
        """Returns the lyrics in known characters only: transliterated to ASCII, a newline for each backslash."""
        # Lone surrogates are no characters; Unidecode would drop them too, with a warning.
        valid = lyrics.encode("utf-8", "ignore").decode("utf-8")
        from unidecode import unidecode  # the standalone fetch opens a family without it

        ascii_only: str = unidecode(valid)
        return "".join(c for c in ascii_only.replace("\\", "\n") if c in self.characters)

    def tokens(self, lyrics: str) -> tuple[int, ...]:
        """Returns the tokens of the cleaned lyrics, one a character.

        Raises:
            LabelError: the lyrics are not empty, but none of their characters is known.
        """
        clean = self.clean(lyrics)
        if lyrics and not clean:
            raise LabelError(
                f"lyrics {lyrics[:40]!r} hold no character that the model knows; "
                "write them in letters, digits and common punctuation, or leave them empty"
            )
        token_of = {character: token for token, character in enumerate(self.characters, 1)}
        return tuple(token_of[character] for character in clean)

    def text(self, tokens: Sequence[int]) -> str:
        """Returns the text of `tokens`, without padding."""
        return "".join(self.characters[token - 1] for token in tokens if token != PADDING)


ALPHABET_V2 = Alphabet(_BEFORE_PLUS + "+" + _AFTER_PLUS)
ALPHABET_V3 = Alphabet(_BEFORE_PLUS + _AFTER_PLUS)


def alphabet(size: int) -> Alphabet:
    """Returns the alphabet of `size` tokens, padding included: 80 is v2, 79 is v3.

    Raises:
        ConfigError: no alphabet has that size.
    """
    known = {each.size: each for each in (ALPHABET_V2, ALPHABET_V3)}
    if size not in known:
        raise ConfigError(f"lyrics have {size} characters; choose {ALPHABET_V2.size} (v2) or {ALPHABET_V3.size} (v3)")
    return known[size]


class LyricWindow(NamedTuple):
    """Lyric tokens of a window."""

    tokens: tuple[int, ...]
    indices: tuple[int, ...]  # position of each token in the song's lyrics, -1 for padding


def lyric_window(
    full: Sequence[int],
    size: int,
    *,
    total_length: int,
    offset: int,
    duration: int,
    single_precision: bool = True,
) -> LyricWindow:
    """Returns the `size` tokens of a song's lyrics that condition a window.

    Lyrics shorter than `size` are padded on the left. Of longer ones it is the part whose middle has the same relative
    position in the lyrics as the window's middle has in the song, moved to stay within the lyrics.

    Args:
        full: all lyric tokens of the song.
        size: lyric tokens of the prior's input.
        total_length: length of the song, in samples.
        offset: start of the window in the song, in samples.
        duration: length of the window, in samples.
        single_precision: whether the middle is computed in 32-bit floating point, as upstream does for windows;
            otherwise in 64-bit, as it does for whole songs. They sometimes differ by one.

    Raises:
        LabelError: the lyrics are at least `size` long, and `offset` is outside the song.
    """
    count = len(full)
    if count < size:
        padding = size - count
        return LyricWindow(
            (PADDING,) * padding + tuple(full),
            (PADDING_INDEX,) * padding + tuple(range(count)),
        )
    if not 0 <= offset < total_length:
        raise LabelError(
            f"offset {offset} is outside the song of {total_length} samples; choose one from 0 to {total_length - 1}"
        )
    if single_precision:
        import numpy as np  # half of the import time of this package, and few commands need it

        middle = int(np.float32(count) * (np.float32(offset) + np.float32(duration) / 2) / np.float32(total_length))
    else:
        middle = int(count * (offset + duration / 2.0) / total_length)
    first = min(max(middle - size // 2, 0), count - size)
    return LyricWindow(tuple(full[first : first + size]), tuple(range(first, first + size)))
