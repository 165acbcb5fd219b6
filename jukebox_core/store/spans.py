"""Reads tracks: the tokens that spans name, from a token store. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from numpy.typing import NDArray

    from jukebox_core.store.store import TokenStore
    from jukebox_core.tokens.graph import Span


def read_spans(store: TokenStore, spans: Iterable[Span], *, partial: Collection[str] = ()) -> NDArray[Any]:
    """Returns the tokens of `spans` in order, in the stored dtype: [time], or [codebooks, time] of windows with grids.

    Each window is read and verified once. Time is the last axis. Without spans, int32 [0]. Of the windows in `partial`,
    what is stored of them is read where they are not sealed yet.

    Raises:
        DamagedError: a stored window is damaged; it was set aside; the next run samples it again.
        StoreError: a window is not stored.
    """
    pieces: list[NDArray[Any]] = []
    for span in spans:
        stored = (store.read_partial(span.key) if span.key in partial else None) or store.read(span.key)
        assert stored.tokens is not None
        pieces.append(stored.tokens[..., span.start - stored.first : span.stop - stored.first])
    return np.concatenate(pieces, axis=-1) if pieces else np.empty(0, np.int32)
