"""A song as a graph of windows: which stored tokens a track is made of, and what one window reads. No tensors.

Legend: a *track* is one level of one song, an unbroken row of spans; a *take* is all its tracks, top level last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from jukebox_core.errors import RunError
from jukebox_core.tokens.keys import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jukebox_core.tokens.plan import Window


class Span(NamedTuple):
    """Tokens ``[start, stop)`` of a level, in absolute positions, as stored under `key`."""

    key: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Track:
    """One level of one song: spans that follow each other without a gap, from position 0."""

    spans: tuple[Span, ...] = ()

    @classmethod
    def joined(cls, spans: Iterable[Sequence[Any]]) -> Track:
        """Returns the track that `spans`, each (key, start, stop), make up, as a manifest keeps them.

        Raises:
            RunError: they do not follow each other without a gap.
        """
        track = cls()
        for key, start, stop in spans:
            if start != len(track) or stop <= start:
                raise RunError(f"tokens {start} to {stop} do not follow position {len(track)}; the run is damaged")
            track = track.extend(key, stop)
        return track

    def __len__(self) -> int:
        return self.spans[-1].stop if self.spans else 0

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    def slice(self, start: int, stop: int) -> tuple[Span, ...]:
        """Returns the spans that cover ``[start, stop)``, trimmed to it."""
        assert 0 <= start <= stop <= len(self), f"[{start}, {stop}) is not within a track of {len(self)} tokens"
        covering = []
        for span in reversed(self.spans):  # windows read what was made last
            if span.stop <= start:
                break
            if span.start < stop and start < stop:
                covering.append(Span(span.key, max(span.start, start), min(span.stop, stop)))
        return tuple(reversed(covering))

    def cut(self, stop: int) -> Track:
        """Returns the track's first `stop` tokens (all of them if it is shorter)."""
        return Track(self.slice(0, min(stop, len(self))))

    def extend(self, key: str, stop: int) -> Track:
        """Returns the track with the tokens stored under `key` added, up to position `stop`."""
        return Track((*self.spans, Span(key, len(self), stop)))


Take = tuple[Track, ...]
"""One song's tracks, one a level, bottom level first; a level that does not exist yet is an empty track."""


@dataclass(frozen=True, slots=True)
class Node:
    """One window of one song: what it reads, and everything else that causes its tokens."""

    level: int
    sample: int
    window: Window
    reads: tuple[Span, ...]  # of its own level: [start, known)
    above: tuple[Span, ...]  # of the level above, as far as the window reaches; empty at the top
    labels: tuple[int, ...]
    causes: dict[str, Any]  # what the key is made of
    key: str


def make_node(
    *,
    level: int,
    sample: int,
    window: Window,
    reads: Iterable[Span],
    above: Iterable[Span],
    labels: Iterable[int],
    **causes: object,
) -> Node:
    """Returns the window's node; its key is the hash of everything given here, and of nothing else (design rule 1)."""
    reads, above, labels = tuple(reads), tuple(above), tuple(labels)
    everything = {
        "schema": 1,
        "level": level,
        "sample": sample,
        "window": window,
        "reads": reads,
        "above": above,
        "labels": labels,
        **causes,
    }
    return Node(level, sample, window, reads, above, labels, everything, digest(everything))
