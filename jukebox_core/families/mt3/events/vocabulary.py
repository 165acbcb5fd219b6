"""Events, and their indices and ids. Imports no torch.

An *event* is a kind with a value; its *index* counts all events in the order shift, pitch, velocity, tie, program,
drum; its *id*, in the model's vocabulary, is the index + 3. Velocity 0 ends notes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from jukebox_core.families.mt3.config import EOS_ID, SPECIAL_IDS, UNKNOWN_ID, VocabularyConfig, event_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Kind = Literal["shift", "pitch", "velocity", "tie", "program", "drum"]
INVALID = -2  # the index of an id that stands for no event


class Event(NamedTuple):
    """One event."""

    kind: Kind
    value: int


class Vocabulary:
    """The events of a model."""

    def __init__(self, config: VocabularyConfig) -> None:
        """Lays out the ranges of indices."""
        self.config = config
        counts: tuple[tuple[Kind, int], ...] = (
            ("shift", config.max_shift_steps + 1),
            ("pitch", 128),
            ("velocity", config.velocity_bins + 1),
            ("tie", 1),
            ("program", 128),
            ("drum", 128),
        )
        self._first: dict[Kind, int] = {}
        self._events: list[Event] = []
        for kind, count in counts:
            self._first[kind] = len(self._events)
            self._events += [Event(kind, value) for value in range(count)]
        assert len(self) == event_count(config)
        self.tie = self.index("tie", 0)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def ids(self) -> int:
        """Number of ids that have a meaning: special ids and events."""
        return len(self) + SPECIAL_IDS

    def index(self, kind: Kind, value: int) -> int:
        """Returns the index of an event."""
        return self._first[kind] + value

    def event(self, index: int) -> Event | None:
        """Returns the event of an index; None if there is none."""
        return self._events[index] if 0 <= index < len(self._events) else None

    def range(self, kind: Kind) -> range:
        """Returns the indices of all events of a kind."""
        last = {"velocity": self.config.velocity_bins + 1, "tie": 1, "shift": self.config.max_shift_steps + 1}
        return range(self._first[kind], self._first[kind] + last.get(kind, 128))

    def velocity_bin(self, velocity: int) -> int:
        """Returns the bin of a MIDI velocity, 0 for 0 alone."""
        return -(-self.config.velocity_bins * velocity // 127)

    def velocity(self, velocity_bin: int) -> int:
        """Returns the MIDI velocity of a bin."""
        return 127 * velocity_bin // self.config.velocity_bins

    def to_ids(self, indices: Iterable[int]) -> list[int]:
        """Returns the ids of a segment, with the end of sequence."""
        return [*(index + SPECIAL_IDS for index in indices), EOS_ID]

    def to_indices(self, ids: Iterable[int]) -> list[int]:
        """Returns the indices before the end of sequence; `INVALID` for ids that stand for no event."""
        found = []
        for each in ids:
            if each == EOS_ID:
                break
            found.append(each - SPECIAL_IDS if SPECIAL_IDS <= each < self.ids else INVALID)
        return found

    @staticmethod
    def to_indices_as_ports(ids: Sequence[int]) -> list[int]:
        """Returns what upstream's torch ports make of ids: cut at the end of sequence or an unknown id.

        Without either nothing is left of the segment (defects D2 and D3 in docs/transcribe.md).
        """
        stops = [at for at, each in enumerate(ids) if each in (EOS_ID, UNKNOWN_ID)]
        return [each - SPECIAL_IDS for each in ids[: stops[0] if stops else 0]]

    def banned_ids(self, programs: Iterable[int], *, parity: bool) -> list[int]:
        """Returns the ids of all programs but `programs`. Upstream can never ban program 127 (D10)."""
        allowed = set(programs)
        every = list(self.range("program"))[: 127 if parity else 128]
        first = self._first["program"]
        return [index + SPECIAL_IDS for index in every if index - first not in allowed]


@lru_cache
def vocabulary_of(config: VocabularyConfig) -> Vocabulary:
    """Returns the vocabulary of a configuration, made once."""
    return Vocabulary(config)
