"""Window planning: integers only, apart from tensors (docs/upstream.md, Windows)."""

from __future__ import annotations

import math
from typing import NamedTuple

from jukebox_core.errors import ConfigError

_ENDLESS = 1e12  # seconds; what is longer, up to the largest float, is too long for a model in the same way
_ROUNDING = 1e-6  # of a token: rounding error of a decimal number of seconds


class Window(NamedTuple):
    """One window of a level, in absolute token positions of the song's level."""

    start: int  # first token of the context
    known: int  # one past the last token that is known when the window begins
    stop: int  # one past the last token that the window fills

    @property
    def new(self) -> int:
        """How many tokens the window samples."""
        return self.stop - self.known


def whole_tokens(seconds: float, sample_rate: int, hop: int) -> int:
    """Returns how many tokens of `hop` audio samples fit into `seconds`; a millionth of a token is rounded up."""
    return math.floor(min(seconds, _ENDLESS) * sample_rate / hop + _ROUNDING)


def window_starts(total: int, context: int, hop: int) -> list[int]:
    """Returns the starts of the full windows over `total` tokens: 0, hop, 2 hop ..., the last one moved back to fit.

    Raises:
        ConfigError: `total` is shorter than the context, or `hop` is not within 1 to `context`.
    """
    if total < context:
        raise ConfigError(f"{total} tokens do not fill a context of {context}; ask for at least {context}")
    if not 1 <= hop <= context:
        raise ConfigError(f"hop {hop} must be between 1 and the context, {context}")
    last = total - context
    return [*range(0, last, hop), last]


def plan_windows(total: int, context: int, hop: int, have: int = 0) -> list[Window]:
    """Returns the windows that bring a level from `have` known tokens to `total`, in order.

    Windows that are full already are omitted, so every token from `have` to `total` is filled by exactly one window.
    A level shorter than the context is a single window that starts at 0.
    """
    if total < context:
        return [Window(0, have, total)] if have < total else []
    windows = []
    for start in window_starts(total, context, hop):
        stop = start + context
        if stop > have:
            windows.append(Window(start, have, stop))
            have = stop
    return windows


def append_window(have: int, new: int, context: int) -> Window:
    """Returns the window that adds `new` tokens to `have` known ones, looking back as far as the context allows.

    This is upstream's partial window (docs/upstream.md, Windows), used where a level is shorter than its context.

    Raises:
        ConfigError: more new tokens than the context holds.
    """
    if new > context:
        raise ConfigError(f"{new} new tokens do not fit in a context of {context}; ask for at most {context}")
    return Window(max(0, have + new - context), have, have + new)


def split_chunks(length: int, size: int | None) -> list[int]:
    """Returns the sizes of the chunks of `length`: `size` each, the last one the remainder.

    A `size` of None gives one chunk (docs/upstream.md, Sampling).

    Raises:
        ConfigError: `length` is negative or `size` is not positive.
    """
    if length < 0:
        raise ConfigError(f"a length of {length} cannot be split; it must be at least 0")
    if size is not None and size < 1:
        raise ConfigError(f"pieces of {size} cannot make up {length}; choose a size of at least 1")
    if length == 0:
        return []
    if size is None:
        return [length]
    full, rest = divmod(length, size)
    return [size] * full + ([rest] if rest else [])


def split_batch(n: int, size: int) -> list[int]:
    """Returns the sizes of the batches that `n` samples are split into: `size` each, the last one the remainder.

    Raises:
        ConfigError: as `split_chunks`.
    """
    return split_chunks(n, size)
