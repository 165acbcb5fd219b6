"""Which ids continue a segment validly: with these alone, no event is ever invalid or dropped. Imports no torch.

    segment = [(program | pitch that sounds) ... tie] (shift | [program] [velocity] (pitch | drum) ...) ... end

Beyond validity, a segment stays within its own steps of time, its shifts rise, and a program or velocity is written at
most once between notes and only if it differs from the one written last, so that sequences end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.families.mt3.config import EOS_ID, SPECIAL_IDS

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from jukebox_core.families.mt3.events.decoding import NoteDecoder
    from jukebox_core.families.mt3.events.vocabulary import Kind


class Grammar:
    """The rules for one segment, whose events it applies to the decoder of its recording."""

    def __init__(
        self, decoder: NoteDecoder, embeddings: int, steps: int, programs: Collection[int] | None = None
    ) -> None:
        """Begins after `NoteDecoder.begin`.

        Args:
            decoder: the state of the recording, with the segment begun.
            embeddings: ids of the model.
            steps: steps of time of the segment.
            programs: the only programs allowed; None: all.
        """
        self._decoder, self._embeddings = decoder, embeddings
        self._last_step = min(steps - 1, decoder.config.max_shift_steps)
        self._programs = set(range(128) if programs is None else programs)
        self._step = 0  # since the start of the segment
        self._written: dict[str, int] = {}  # program and velocity bin as written in this segment
        self._pending: set[str] = set()  # kinds written since the last note, and shift

    def allowed_ids(self) -> NDArray[np.bool_]:
        """Returns which ids may follow, bool [embeddings]; at least one may."""
        allowed = np.zeros(self._embeddings, np.bool_)
        events = allowed[SPECIAL_IDS : SPECIAL_IDS + len(self._decoder.vocabulary)]  # a view
        if self._decoder.in_tie_section:
            self._allow_ties(events)
            return allowed
        allowed[EOS_ID] = True
        if "shift" not in self._pending:
            shifts = self._decoder.vocabulary.range("shift")
            events[shifts.start + self._step + 1 : shifts.start + self._last_step + 1] = True
        if self._decoder.config.mode == "onsets":
            events[self._slice("pitch")] = True
        else:
            self._allow_notes(events)
        return allowed

    def fork(self) -> Grammar:
        """Returns a copy that goes on by itself, over a copy of the decoder without the notes that have ended."""
        decoder = self._decoder
        own = replace(decoder, notes=[], sounding=dict(decoder.sounding), tied=set(decoder.tied))
        made = Grammar(own, self._embeddings, self._last_step + 1, self._programs)
        made._step, made._written, made._pending = self._step, dict(self._written), set(self._pending)
        return made

    def feed_id(self, chosen: int) -> None:
        """Applies an id that was chosen among those allowed."""
        if chosen == EOS_ID:
            return
        index = chosen - SPECIAL_IDS
        event = self._decoder.vocabulary.event(index)
        assert event is not None, "it is not among the allowed ids"
        if event.kind in ("program", "velocity"):
            self._written[event.kind] = event.value
            self._pending.add(event.kind)
            self._pending.discard("shift")
        elif event.kind == "shift":
            self._pending, self._step = {"shift"}, event.value
        else:
            self._pending.clear()
        self._decoder.feed(index)

    def _allow_ties(self, events: NDArray[np.bool_]) -> None:
        decoder = self._decoder
        events[decoder.vocabulary.tie] = True
        open_ = [key for key in decoder.sounding if key not in decoder.tied]
        if "program" not in self._pending:
            programs = {program for _, program in open_} - {self._written.get("program", -1)}
            self._allow_values(events, "program", programs)
        self._allow_values(events, "pitch", {pitch for pitch, program in open_ if program == decoder.program})

    def _allow_notes(self, events: NDArray[np.bool_]) -> None:
        decoder, written = self._decoder, self._written
        if "program" not in self._pending:
            self._allow_values(events, "program", self._programs - {written.get("program", -1)})
        if "velocity" not in self._pending:
            events[self._slice("velocity")] = True
            silent = decoder.vocabulary.index("velocity", 0)
            events[silent] = bool(decoder.sounding)
            if "velocity" in written:
                events[silent + written["velocity"]] = False
        sounding = {pitch: note for (pitch, program), note in decoder.sounding.items() if program == decoder.program}
        if decoder.velocity == 0:
            self._allow_values(events, "pitch", sounding)
            return
        events[self._slice("drum")] = True
        if decoder.program in self._programs:
            just_begun = {pitch for pitch, note in sounding.items() if note.start == decoder.event_time}
            self._allow_values(events, "pitch", set(range(128)) - just_begun)

    def _allow_values(self, events: NDArray[np.bool_], kind: Kind, values: Collection[int]) -> None:
        first = self._decoder.vocabulary.range(kind).start
        events[[first + value for value in values]] = True

    def _slice(self, kind: Kind) -> slice:
        found = self._decoder.vocabulary.range(kind)
        return slice(found.start, found.stop)
