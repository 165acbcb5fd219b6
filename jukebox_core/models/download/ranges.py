"""Fetches the missing bytes of one file over parallel connections. Imports no torch.

Blocks are assigned in order, so that the beginning is soon complete and can be hashed while the rest arrives. A thread
for each connection reads it, writes to the file, and updates the note after every fraction of the file: the bytes that
a kill costs do not depend on how busy the machine is. The caller's own thread hashes, syncs and reports.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from jukebox_core.models.download.part import Span, gaps, merged
from jukebox_core.models.download.replies import ChangedError, NoRangesError, Reply, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from jukebox_core.models.download.part import Part

SMALLEST_BLOCK, LARGEST_BLOCK = 1 << 20, 64 << 20

_CHUNK = 256 << 10  # bytes read, written and hashed while still in the processor's cache
_POLL_SECONDS = 0.05  # between two updates of the hash; more often would slow the connections
_NOTES = 400  # a note is written for every 1/400 of the file
_HASH_STEP = 32 << 20  # bytes hashed at a time


def blocks(spans: list[Span], total: int, connections: int) -> list[Span]:
    """Returns the gaps of `spans` in [0, total), cut so that every connection has several blocks."""
    size = min(max(total // (8 * connections), SMALLEST_BLOCK), LARGEST_BLOCK)
    return [(at, min(at + size, stop)) for start, stop in gaps(spans, total) for at in range(start, stop, size)]


class Ranges:
    """One attempt to fetch all gaps of a file; it ends when they are filled or one connection fails."""

    def __init__(
        self, part: Part, descriptor: int, open_range: Callable[[int, int], AbstractContextManager[Reply]]
    ) -> None:
        """Takes the part, its open file, and how a range of the source's file is opened."""
        self._part, self._descriptor, self._open = part, descriptor, open_range
        self._changed = threading.Condition()
        self._waiting: list[Span] = []
        self._arrived: list[Span] = []
        self._errors: list[Exception] = []
        self._running = 0
        self._step = self._unnoted = 0  # bytes without a note: the most, and now

    def fetch(self, first: Reply, connections: int, progress: Callable[[], None]) -> None:
        """Fills the part's gaps up to ``first.total``; `first`, an open reply, serves the first block.

        Raises:
            SourceError: a connection broke; the bytes that arrived are in the part.
            ChangedError: the source's file has changed.
            OSError: the part cannot be written.
        """
        assert first.total is not None, "ranges are fetched of files whose size is known"
        self._waiting = blocks(self._part.spans, first.total, connections)
        self._step = first.total // _NOTES
        count = min(connections, len(self._waiting))
        threads = [
            threading.Thread(target=self._work, args=(first, number == 0), name=f"range {number}", daemon=True)
            for number in range(count)
        ]
        self._running = count
        for thread in threads:
            thread.start()
        try:
            self._follow(progress)
        finally:
            with self._changed:
                self._waiting.clear()
            for thread in threads:
                thread.join()
            self._note()
        if self._errors:
            raise next((e for e in self._errors if isinstance(e, ChangedError)), self._errors[0])
        self._part.catch_up(self._descriptor)
        progress()

    def _follow(self, progress: Callable[[], None]) -> None:
        """Hashes, syncs and reports arriving bytes until no connection is left."""
        while True:
            with self._changed:
                if self._part.hashed == self._part.prefix:
                    self._changed.wait(_POLL_SECONDS)
                self._merge()
                running = self._running
            if self._part.due:
                self._part.sync(self._descriptor)
                with self._changed:
                    self._note()
            progress()
            self._part.catch_up(self._descriptor, most=_HASH_STEP)
            if not running:
                return

    def _merge(self) -> None:
        """Adds the arrived spans to the part; the caller holds the lock."""
        self._part.spans = merged([*self._part.spans, *self._arrived])
        self._arrived.clear()

    def _note(self) -> None:
        """Writes the note; the caller holds the lock."""
        self._merge()
        self._part.note()
        self._unnoted = 0

    def _work(self, first: Reply, is_first: bool) -> None:
        try:
            while (block := self._next()) is not None:
                if is_first:
                    is_first = False
                    self._fill(block, first, first)
                    continue
                with ExitStack() as stack:
                    self._fill(block, stack.enter_context(self._open(*block)), first)
        except Exception as error:
            with self._changed:
                self._errors.append(error)
                self._waiting.clear()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify()

    def _next(self) -> Span | None:
        with self._changed:
            return self._waiting.pop(0) if self._waiting else None

    def _fill(self, block: Span, reply: Reply, first: Reply) -> None:
        position, stop = block
        if (reply.total, reply.version) != (first.total, first.version):
            raise ChangedError("changed the file while it was fetched")
        if reply.start != position:
            raise NoRangesError("does not serve parts of the file")
        while position < stop and not self._errors:
            chunk = reply.read(min(_CHUNK, stop - position))
            if not chunk:
                raise SourceError(f"broke off at byte {position:,} of {first.total:,}")
            written = os.pwrite(self._descriptor, chunk, position)
            while written < len(chunk):
                written += os.pwrite(self._descriptor, chunk[written:], position + written)
            with self._changed:
                self._arrived.append((position, position + len(chunk)))
                self._unnoted += len(chunk)
                if self._unnoted > self._step:
                    self._note()
            position += len(chunk)
