"""The order in which the windows of a run are sampled. Keys and integers only: no Prefect and no torch.

A unit of work is one window of the songs of a shard whose windows coincide. It may start once every window that it
reads is sealed. The order chooses among the units that may start:

by_level    the top level is finished first, then the next: one model is in memory at a time.
wavefront   the lowest level first, and in it the earliest moment: final sound comes soon, all models stay in memory.

The order changes no token.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jukebox_core.protocols import SongPlan
    from jukebox_core.tokens.graph import Node
    from jukebox_core.tokens.plan import Window

Order = Literal["by_level", "wavefront"]


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """One window of a batch of songs: the work of one task."""

    shard: int
    nodes: tuple[Node, ...]  # of the same level and window, songs in order

    @property
    def level(self) -> int:
        """The level sampled."""
        return self.nodes[0].level

    @property
    def start(self) -> int:
        """Where the window begins, in tokens of its level."""
        return self.nodes[0].window.start

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the windows that it seals."""
        return frozenset(node.key for node in self.nodes)

    @property
    def needs(self) -> frozenset[str]:
        """The keys of the stored tokens that it reads."""
        return frozenset(key for node in self.nodes for key in node.needs)


def split_songs(songs: Sequence[SongPlan], batch_size: int, shards: int = 1) -> list[Sequence[SongPlan]]:
    """Returns the songs in even groups of at most `batch_size`: `shards` groups, or more if those would be larger."""
    count = min(len(songs), max(shards, -(-len(songs) // batch_size)))
    size, larger = divmod(len(songs), count)
    starts = [number * size + min(number, larger) for number in range(count + 1)]
    return [songs[start:stop] for start, stop in pairwise(starts)]


def plan_units(songs: Sequence[SongPlan], batch_size: int, shards: int = 1) -> list[Unit]:
    """Returns every window of every song as units of work, each window in exactly one.

    The songs of a shard are sampled as one batch, window by window. Songs whose windows differ, because their initial
    takes differ in length, are in separate units, and so are those that read more or fewer tokens.
    """
    return [
        Unit(number, nodes)
        for number, group in enumerate(split_songs(songs, batch_size, shards))
        for level in sorted({node.level for song in group for node in song.nodes}, reverse=True)
        for nodes in _coinciding([song.level(level) for song in group])
    ]


def _coinciding(songs: Sequence[Sequence[Node]]) -> Iterator[tuple[Node, ...]]:
    """Yields the nodes of one level that have the same index and shape, songs in order."""
    for index in range(max(map(len, songs))):
        row = sorted((nodes[index] for nodes in songs if index < len(nodes)), key=_shape)
        for _, alike in groupby(row, key=_shape):
            yield tuple(sorted(alike, key=lambda node: node.sample))


def _shape(node: Node) -> tuple[Window, list[tuple[str, int]]]:
    """Returns what nodes of one batch have in common: the window, and how many tokens of each input they read."""
    lengths = sorted((name, sum(span.stop - span.start for span in spans)) for name, spans in node.inputs.items())
    return node.window, lengths


class Schedule:
    """The units that are left to sample, and those of them that may start now. Not thread-safe.

    Attributes:
        open: Keys of planned windows that are not sealed.
    """

    def __init__(self, units: Iterable[Unit], missing: Iterable[str], order: Order) -> None:
        """Schedules the units of a run; those without any key in `missing` are omitted."""
        missing = frozenset(missing)
        left = [unit for unit in units if not missing.isdisjoint(unit.keys)]
        self.open = {key for unit in left for key in unit.keys & missing}
        self._order = order
        self._left = Counter(unit.level for unit in left)  # by level: units that have not started
        self._running: Counter[int] = Counter()
        self._ready: dict[int, list[tuple[int, int, int, Unit]]] = {level: [] for level in self._left}  # heaps
        self._waits: dict[Unit, int] = {}  # number of unsealed keys that it reads
        self._readers: dict[str, list[Unit]] = {}  # by key: units that wait for it
        self._places = {unit: place for place, unit in enumerate(left)}
        for unit in left:
            needs = unit.needs & self.open
            self._waits[unit] = len(needs)
            for key in needs:
                self._readers.setdefault(key, []).append(unit)
            if not needs:
                self._make_ready(unit)

    def __len__(self) -> int:
        """Number of units that have not started."""
        return self._left.total()

    def take(self) -> Unit | None:
        """Returns the next unit to start, or None if all units left wait for running ones."""
        level = self._level()
        if level is None:
            assert self._running.total() or not len(self), "every unit left waits for another one that is left"
            return None
        *_, unit = heapq.heappop(self._ready[level])
        self._left[level] -= 1
        self._running[level] += 1
        return unit

    def finish(self, unit: Unit) -> None:
        """Records that every window of a started unit is sealed."""
        self._running[unit.level] -= 1
        for key in unit.keys & self.open:
            self.open.remove(key)
            for reader in self._readers.pop(key, ()):
                self._waits[reader] -= 1
                if not self._waits[reader]:
                    self._make_ready(reader)

    def _level(self) -> int | None:
        """Returns the level of the next unit, or None if no unit may start."""
        if self._order == "wavefront":
            return min((level for level, ready in self._ready.items() if ready), default=None)
        unfinished = max((level for level in self._left if self._left[level] or self._running[level]), default=None)
        return unfinished if unfinished is not None and self._ready[unfinished] else None

    def _make_ready(self, unit: Unit) -> None:
        # By level, a shard is finished before the next one starts; in a wavefront the earliest moment comes first.
        rank = (unit.shard, unit.start) if self._order == "by_level" else (unit.start, unit.shard)
        heapq.heappush(self._ready[unit.level], (*rank, self._places[unit], unit))
