"""Songs that can no longer be read while a training goes on: skipped, counted, and too many of them an error."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.errors import JukeboxError

log = logging.getLogger("jukebox")


class UnreadableSongs:
    """Counts the songs of a dataset that could not be read; the workers of a data loader share the count.

    Args:
        names: of all songs.
        most: largest share of them that may be unreadable; a single song never stops a training, unless it is the last.
    """

    def __init__(self, names: Sequence[str], most: float) -> None:
        self._names, self._most = names, most
        self._seen = torch.zeros(len(names), dtype=torch.uint8)
        self._seen.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Number of songs that could not be read so far."""
        return int(self._seen.sum())

    def skip(self, song: int, error: JukeboxError) -> None:
        """Counts a song, once, with a warning.

        Raises:
            JukeboxError: of the type of `error`: too many songs cannot be read.
        """
        known = bool(self._seen[song])
        self._seen[song] = 1
        count, total = len(self), len(self._names)
        if count == total or (count > 1 and count > self._most * total):
            raise type(error)(
                f"{count} of {total} songs can no longer be read, more than the allowed share of {self._most:g} "
                f"(data.checks.most_unreadable); the last: {error}"
            ) from None
        if not known:
            log.warning(
                "%s is skipped, others are taken in its place; %d of %d songs cannot be read: %s",
                self._names[song], count, total, error,
            )  # fmt: skip
