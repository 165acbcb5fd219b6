"""From audio to notes: segments, their ids, and the notes that these mean."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from jukebox_core.errors import AudioError
from jukebox_core.families.mt3.config import (
    PAD_ID,
    SHORTEST_SECONDS,
    LinearFrontEndConfig,
    TranscriptionConfig,
    check_transcription,
    is_sequential,
)
from jukebox_core.families.mt3.events.decoding import NoteDecoder, Segment, decode
from jukebox_core.families.mt3.events.grammar import Grammar
from jukebox_core.families.mt3.events.segments import segment_count, segment_start
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.model.front_end import FrontEnd, LinearFrontEnd
from jukebox_core.families.mt3.transcription.beams import search_rows
from jukebox_core.families.mt3.transcription.blocks import SEGMENTS, Row, from_block, to_block
from jukebox_core.families.mt3.transcription.loop import decode_rows
from jukebox_core.notes.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from jukebox_core.families.mt3.config import MT3Network
    from jukebox_core.families.mt3.model.transformer import MT3
    from jukebox_core.notes.note import Note


class Transcript(NamedTuple):
    """What the model found in one segment, in one channel of instruments."""

    start: float  # seconds
    row: Row
    channel: int = 0


@dataclass(frozen=True, slots=True)
class Transcriber:
    """A model on one device; `jukebox_core.protocols.Transcriber`."""

    model: MT3
    front_end: FrontEnd | LinearFrontEnd

    @property
    def network(self) -> MT3Network:
        """The model's sizes."""
        return self.model.config

    def transcribe(self, audio: NDArray[np.float32], settings: TranscriptionConfig | None = None) -> Notes:
        """Returns the notes of mono audio [T] at the model's sample rate."""
        settings = settings or TranscriptionConfig()
        return self.notes(list(self.transcripts(audio, settings)), settings, seconds=len(audio) / self._rate)

    def stream(self, audio: NDArray[np.float32], settings: TranscriptionConfig | None = None) -> Iterator[list[Note]]:
        """Yields the notes that end in each segment, while the recording is transcribed, and then the last ones."""
        settings = settings or TranscriptionConfig()
        count = segment_count(len(audio), self.network.front_end)
        yield from self._ended_notes(self.transcripts(audio, settings), settings, count)

    def transcripts(
        self, audio: NDArray[np.float32], settings: TranscriptionConfig, known: Sequence[Row] = ()
    ) -> Iterator[Transcript]:
        """Yields what was found in each segment and channel, in order, while the recording is read.

        Segments are decoded in batches, but one after the other where each depends on the one before (`is_sequential`).

        Args:
            audio: mono samples [T] at the model's rate.
            settings: how it is transcribed.
            known: the rows of the first segments, of all their channels, from an interrupted attempt; they are not
                computed again.

        Raises:
            AudioError: the recording is shorter than 10 ms.
            ConfigError: the model cannot do what the settings ask for.
        """
        check_transcription(self.network, settings)
        if len(audio) < SHORTEST_SECONDS * self._rate:
            lasts, least = 1000 * len(audio) / self._rate, 1000 * SHORTEST_SECONDS
            raise AudioError(f"the recording lasts {lasts:.1f} ms; give at least {least:g} ms")
        audio_T = torch.from_numpy(np.ascontiguousarray(audio, np.float32)).to(self.model.device)
        settings = replace(settings, max_tokens=settings.max_tokens or self.network.transformer.max_tokens)
        make = self._sequential_rows if self.is_sequential(settings) else self._independent_rows
        yield from self._placed(chain(known, make(audio_T, settings, known)), settings)

    def block_count(self, samples: int) -> int:
        """Returns the number of blocks of a recording of `samples` samples."""
        return -(-segment_count(samples, self.network.front_end) // SEGMENTS)

    def blocks(
        self, audio: NDArray[np.float32], settings: TranscriptionConfig, have: Sequence[NDArray[np.int32]] = ()
    ) -> Iterator[NDArray[np.int32]]:
        """Yields the blocks of a recording that follow those in `have`, each when it is finished."""
        known = [row for block in have for row in from_block(block)]
        transcripts = islice(self.transcripts(audio, settings, known), len(known), None)
        while rows := [each.row for each in islice(transcripts, SEGMENTS * self.network.channels)]:
            yield to_block(rows)

    def notes_of(self, blocks: Sequence[NDArray[np.int32]], settings: TranscriptionConfig, *, seconds: float) -> Notes:
        """Returns the notes in all blocks of a recording, which lasts `seconds`."""
        rows = [row for block in blocks for row in from_block(block)]
        return self.notes(list(self._placed(rows, settings)), settings, seconds=seconds)

    def stream_notes(
        self, blocks: Iterable[NDArray[np.int32]], settings: TranscriptionConfig, *, samples: int
    ) -> Iterator[list[Note]]:
        """Yields the notes that end in each segment of a recording's blocks as they come, and then the last ones."""
        rows = (row for block in blocks for row in from_block(block))
        count = segment_count(samples, self.network.front_end)
        yield from self._ended_notes(self._placed(rows, settings), settings, count)

    def is_sequential(self, settings: TranscriptionConfig) -> bool:
        """Whether each segment depends on the one before: with a memory, and with constraints."""
        return is_sequential(self.network, settings)

    def notes(self, transcripts: list[Transcript], settings: TranscriptionConfig, *, seconds: float = 0.0) -> Notes:
        """Returns the notes of all segments of a recording, which lasts `seconds`."""
        read, vocabulary = self._reader(settings), self.network.vocabulary
        of_channel: dict[int, list[Segment]] = defaultdict(list)
        for each in transcripts:
            of_channel[each.channel].append(Segment(each.start, read(each.row.ids)))
        decoded = [decode(vocabulary, segments) for segments in of_channel.values()]
        return Notes.of(
            chain.from_iterable(each.notes for each in decoded),
            invalid_events=sum(each.invalid for each in decoded),
            dropped_events=sum(each.dropped for each in decoded),
            truncated_segments=len({each.start for each in transcripts if not each.row.complete}),
            seconds=seconds,
        )

    @torch.inference_mode()
    def encode(self, audio_T: Tensor, first: int, count: int) -> Tensor:
        """Returns the encoded frames [B, F, W] of the sequences of `count` segments of a recording."""
        return self.model.encode(self.front_end(audio_T, first, count))

    def _ended_notes(
        self, transcripts: Iterable[Transcript], settings: TranscriptionConfig, count: int
    ) -> Iterator[list[Note]]:
        """Yields the notes that end in each of `count` segments, and then those that sound at the end."""
        decoders, read = self._decoders(), self._reader(settings)
        seen = [0] * len(decoders)

        def new_notes() -> Iterator[Note]:
            for channel, decoder in enumerate(decoders):
                yield from decoder.notes[seen[channel] :]
                seen[channel] = len(decoder.notes)

        for place, each in enumerate(transcripts):
            index, decoder = place // len(decoders), decoders[each.channel]
            following = 0.0 if index + 1 == count else self._start(index + 1, parity=settings.parity)
            decoder.begin(each.start, following)
            decoder.segment(read(each.row.ids))
            if each.channel == len(decoders) - 1:
                yield list(new_notes())
        for decoder in decoders:
            decoder.finish()
        yield list(new_notes())

    @property
    def _rate(self) -> int:
        return self.network.front_end.sample_rate

    def _decoders(self) -> list[NoteDecoder]:
        """Returns a new decoder for each channel; notes of different channels never affect each other."""
        return [NoteDecoder(self.network.vocabulary) for _ in range(self.network.channels)]

    def _placed(self, rows: Iterable[Row], settings: TranscriptionConfig) -> Iterator[Transcript]:
        """Yields rows with the start of their segment and their channel."""
        for place, row in enumerate(rows):
            index, channel = divmod(place, self.network.channels)
            yield Transcript(self._start(index, parity=settings.parity), row, channel)

    def _reader(self, settings: TranscriptionConfig) -> Callable[[Sequence[int]], list[int]]:
        vocabulary = vocabulary_of(self.network.vocabulary)
        return vocabulary.to_indices_as_ports if settings.parity else vocabulary.to_indices

    def _start(self, index: int, *, parity: bool) -> float:
        return segment_start(index, self.network.front_end, self.network.vocabulary.steps_per_second, parity=parity)

    def _banned(self, settings: TranscriptionConfig) -> NDArray[np.bool_] | None:
        if settings.programs is None:
            return None
        banned = np.zeros(self.network.transformer.embeddings, np.bool_)
        vocabulary = vocabulary_of(self.network.vocabulary)
        banned[vocabulary.banned_ids(settings.programs, parity=settings.parity)] = True
        return banned

    def _independent_rows(self, audio_T: Tensor, settings: TranscriptionConfig, known: Sequence[Row]) -> Iterator[Row]:
        total, banned = segment_count(len(audio_T), self.network.front_end), self._banned(settings)
        channels = self.network.channels
        size = max(1, settings.batch_size // (channels * settings.num_beams))  # segments
        for first in range(len(known) // channels, total, size):
            encoded_BFW = self.encode(audio_T, first, min(size, total - first))
            yield from self._decode(encoded_BFW, settings, banned)

    def _sequential_rows(self, audio_T: Tensor, settings: TranscriptionConfig, known: Sequence[Row]) -> Iterator[Row]:
        vocabulary, decoders, channels = vocabulary_of(self.network.vocabulary), self._decoders(), self.network.channels
        for place, row in enumerate(known):
            index, channel = divmod(place, channels)
            decoders[channel].begin(*self._limits(index))
            decoders[channel].segment(vocabulary.to_indices(row.ids))
        before = self._memory_of(known[-1], settings) if known else self._first_memory(settings)
        banned = self._banned(settings)
        for index in range(len(known) // channels, segment_count(len(audio_T), self.network.front_end)):
            grammars = self._grammars(decoders, index, settings) if settings.constrained else None
            source_BSW = self._source(audio_T, index, before)
            rows = self._decode(source_BSW, settings, banned, grammars)
            before = self._memory_of(rows[-1], settings)
            yield from rows

    def _grammars(self, decoders: list[NoteDecoder], index: int, settings: TranscriptionConfig) -> list[Grammar]:
        """Returns the rules of a segment for each channel, whose decoder begins the segment."""
        start, stop = self._limits(index)
        steps = round((stop - start) * self.network.vocabulary.steps_per_second)
        for decoder in decoders:
            decoder.begin(start, stop)
        rows = self.network.transformer.embeddings
        return [Grammar(decoder, rows, steps, settings.programs) for decoder in decoders]

    def _decode(
        self,
        source_BSW: Tensor,
        settings: TranscriptionConfig,
        banned: NDArray[np.bool_] | None,
        grammars: Sequence[Grammar] | None = None,
    ) -> list[Row]:
        options: dict[str, Any] = {"max_tokens": _limit(settings), "banned": banned, "grammars": grammars}
        if settings.num_beams > 1:
            return search_rows(self.model, source_BSW, beams=settings.num_beams, **options)
        return decode_rows(self.model, source_BSW, **options)

    def _limits(self, index: int) -> tuple[float, float]:
        return self._start(index, parity=False), self._start(index + 1, parity=False)

    @torch.inference_mode()
    def _source(self, audio_T: Tensor, index: int, before: list[int]) -> Tensor:
        ids_BT = torch.tensor([before], device=audio_T.device)
        return self.model.with_memory(self.encode(audio_T, index, 1), ids_BT)

    def _first_memory(self, settings: TranscriptionConfig) -> list[int]:
        """Returns the ids that stand for the segment before the first one: nothing sounds."""
        vocabulary = vocabulary_of(self.network.vocabulary)
        return _padded(vocabulary.to_ids([vocabulary.tie]), _limit(settings))

    @staticmethod
    def _memory_of(row: Row, settings: TranscriptionConfig) -> list[int]:
        """Returns the ids of a segment as the next one's memory; upstream includes the start token (D7)."""
        start = [PAD_ID] if settings.memory_start_token or settings.parity else []
        return _padded([*start, *row.ids], _limit(settings))


def open_transcriber(model: MT3) -> Transcriber:
    """Returns the transcriber of a loaded model, on its device."""
    config = model.config.front_end
    made = LinearFrontEnd(config, model.window) if isinstance(config, LinearFrontEndConfig) else FrontEnd(config)
    return Transcriber(model, made.to(model.device))


def _limit(settings: TranscriptionConfig) -> int:
    assert settings.max_tokens is not None, "set from the model by `transcripts`"
    return settings.max_tokens


def _padded(ids: list[int], length: int) -> list[int]:
    return [*ids, *[PAD_ID] * (length - len(ids))][:length]
