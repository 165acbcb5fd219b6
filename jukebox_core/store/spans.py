"""Reading tracks: the tokens that spans name, out of a token store. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from jukebox_core.store.store import TokenStore
    from jukebox_core.tokens.graph import Span


def read_spans(store: TokenStore, spans: Iterable[Span]) -> NDArray[np.int32]:
    """Returns the tokens that `spans` cover, int32 [time], each window read and verified once.

    Raises:
        DamagedError: a stored window is damaged; it was set aside, and running again samples it anew.
        StoreError: a window is not stored.
    """
    pieces = [np.empty(0, np.int32)]
    for span in spans:
        stored = store.read(span.key)
        pieces.append(stored.tokens[span.start - stored.first : span.stop - stored.first])
    return np.concatenate(pieces)
