"""A song as a graph of windows: tracks as spans of stored tokens, and nodes with the spans that they read. No tensors.

Legend: a *track* is one level of one song, contiguous spans from position 0; a *take* is all its tracks, top last.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jukebox_core.base.hashing import digest
from jukebox_core.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from jukebox_core.tokens.plan import Window

_LINE = re.compile(r"([0-9a-f]{64}) (\d+)-(\d+)")


class Span(NamedTuple):
    """Tokens ``[start, stop)`` of the object stored under `key`, in the positions at which they are stored.

    In the song they were sampled for, these are the song's positions; in a song they were spliced into, they are not.
    """

    key: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Track:
    """One level of one song: spans one after the other, from position 0.

    Tracks of the same tokens are equal: spans that follow each other under one key are one span.
    """

    spans: tuple[Span, ...] = ()
    _ends: tuple[int, ...] = field(init=False, repr=False, compare=False)  # of each span: its end in this track

    def __post_init__(self) -> None:
        """Joins adjacent spans of one key."""
        joined = joined_spans(self.spans)
        object.__setattr__(self, "spans", joined)
        object.__setattr__(self, "_ends", tuple(accumulate(span.stop - span.start for span in joined)))

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Track:
        """Returns the track that `lines` made.

        Raises:
            RunError: a line is malformed.
        """
        spans = []
        for line in lines:
            found = _LINE.fullmatch(line) if isinstance(line, str) else None
            if found is None or int(found[2]) >= int(found[3]):
                raise RunError(
                    f"{line!r} does not name tokens, as in KEY 0-512; the run is damaged: make it again, or remove it"
                )
            spans.append(Span(found[1], int(found[2]), int(found[3])))
        return cls(tuple(spans))

    def lines(self) -> list[str]:
        """Returns the track as text, ``KEY START-STOP`` for each span, as manifests keep it."""
        return [f"{key} {start}-{stop}" for key, start, stop in self.spans]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    def reach(self, unsealed: Collection[str], partial: Mapping[str, int] | None = None) -> int:
        """Returns the length of the longest prefix that is there, in tokens.

        Args:
            unsealed: keys of windows that are not sealed.
            partial: of some of these, the position up to which their tokens are there.
        """
        for start, span in zip((0, *self._ends), self.spans, strict=False):
            if span.key in unsealed:
                there = min(span.stop, (partial or {}).get(span.key, span.start))
                return start + max(0, there - span.start)
        return len(self)

    def slice(self, start: int, stop: int) -> tuple[Span, ...]:
        """Returns the spans that hold the track's tokens ``[start, stop)``, trimmed to them."""
        assert 0 <= start <= stop <= len(self), f"[{start}, {stop}) is not within a track of {len(self)} tokens"
        covering: list[Span] = []
        index = bisect_right(self._ends, start)
        while start < stop:
            key, first, last = self.spans[index]
            shift = last - self._ends[index]  # from positions in this track to those in the store
            end = min(stop, self._ends[index])
            covering.append(Span(key, max(first, start + shift), end + shift))
            start, index = end, index + 1
        return tuple(covering)

    def cut(self, stop: int) -> Track:
        """Returns the track's first `stop` tokens (all of them if it is shorter)."""
        return Track(self.slice(0, min(stop, len(self))))

    def extend(self, key: str, stop: int) -> Track:
        """Returns the track with tokens added up to position `stop`, stored under `key` at the same positions."""
        return self.append((Span(key, len(self), stop),))

    def append(self, spans: Iterable[Span]) -> Track:
        """Returns the track with `spans` added, whatever their positions in their own song."""
        last, others = self.spans[-1:], len(self.spans[:-1])
        added = joined_spans((*last, *spans))
        at = self._ends[others - 1] if others else 0
        ends = accumulate((span.stop - span.start for span in added), initial=at)
        track = object.__new__(Track)  # not `Track(...)`, which would join all spans again: tracks may have thousands
        object.__setattr__(track, "spans", (*self.spans[:others], *added))
        object.__setattr__(track, "_ends", (*self._ends[:others], *islice(ends, 1, None)))
        return track


def joined_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Returns the spans without empty ones, and those that follow each other without a gap under one key as one."""
    joined: list[Span] = []
    for span in spans:
        if span.start == span.stop:
            continue
        if joined and joined[-1].key == span.key and joined[-1].stop == span.start:
            joined[-1] = Span(span.key, joined[-1].start, span.stop)
        else:
            joined.append(span)
    return tuple(joined)


Take = tuple[Track, ...]
"""One song's tracks, one a level, bottom level first; a level that does not exist yet is an empty track."""


Output = Literal["tokens", "grid", "events", "array"]
"""Kind of a node's output: tokens [time], a grid [codebooks, time], events (one a row), or any other array."""


@dataclass(frozen=True, slots=True)
class Node:
    """One unit of work: one window of one song, the spans that it reads, and all other causes of its output."""

    level: int
    sample: int
    window: Window
    inputs: Mapping[str, tuple[Span, ...]]  # stored tokens by name; "reads": of its own level, [start, known)
    causes: dict[str, Any]  # hashed into the key
    key: str
    output: Output = "tokens"

    @property
    def needs(self) -> Iterator[str]:
        """The keys of the stored tokens that it reads."""
        return (span.key for spans in self.inputs.values() for span in spans)


def make_node(
    *,
    level: int,
    sample: int,
    window: Window,
    inputs: Mapping[str, Iterable[Span]],
    output: Output = "tokens",
    **causes: object,
) -> Node:
    """Returns the window's node; its key hashes everything given here but `output` (keys are causes: docs/glossary.md).

    `output` follows from the family and its settings, which are among the causes.
    """
    read = {name: tuple(spans) for name, spans in inputs.items()}
    everything = {"schema": 1, "level": level, "sample": sample, "window": window, **read, **causes}
    return Node(level, sample, window, read, everything, digest(everything), output)
