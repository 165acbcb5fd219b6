from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from jukebox_core.errors import AudioError
from jukebox_core.families.mt3.config import (
    FrontEndConfig,
    MemoryConfig,
    MT3Network,
    TranscriptionConfig,
    TransformerConfig,
    VocabularyConfig,
)
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.model.transformer import MT3
from jukebox_core.families.mt3.transcription import transcriber as transcriber_module
from jukebox_core.families.mt3.transcription.loop import decode_rows
from jukebox_core.families.mt3.transcription.transcriber import Transcriber, open_transcriber

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZES = TransformerConfig(
    width=16, heads=2, head_width=8, mlp_width=16, encoder_depth=1, decoder_depth=1, embeddings=1536, positions="port",
    max_tokens=24,
)  # fmt: skip
NETWORK = MT3Network(
    front_end=FrontEndConfig(mels=16, segment_frames=32), vocabulary=VocabularyConfig(), transformer=SIZES
)
KINDS = {
    "plain": (None, TranscriptionConfig(batch_size=3)),
    "memory": (MemoryConfig(length=8), TranscriptionConfig()),
    "memory of training": (MemoryConfig(length=8), TranscriptionConfig(memory_start_token=False)),
    "constrained": (None, TranscriptionConfig(constrained=True)),
    "beams": (None, TranscriptionConfig(num_beams=3, batch_size=7)),
    "beams with memory": (MemoryConfig(length=8), TranscriptionConfig(num_beams=2)),
    "constrained beams": (None, TranscriptionConfig(num_beams=2, constrained=True)),
    "programs": (None, TranscriptionConfig(programs=(3, 40))),
}


def opened(memory: MemoryConfig | None = None) -> Transcriber:
    torch.manual_seed(5)
    model = MT3(replace(NETWORK, memory=memory)).eval().requires_grad_(requires_grad=False)
    for parameter in model.parameters():
        parameter.normal_(std=0.6)  # so that segments differ
    return open_transcriber(model)


@pytest.fixture
def audio() -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 0.1, 40 * 32 * 128).astype(np.float32)  # 41 segments


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcriber_module, "SEGMENTS", 4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_transcription_is_resumed_after_any_block(audio: NDArray[np.float32], kind: str) -> None:
    memory, settings = KINDS[kind]
    transcriber, short = opened(memory), audio[: 11 * 32 * 128]
    blocks = list(transcriber.blocks(short, settings))
    assert len(blocks) == transcriber.block_count(len(short)) == 3
    for done in range(4):
        rest = list(transcriber.blocks(short, settings, blocks[:done]))
        assert all(map(np.array_equal, blocks[done:], rest))
        assert len(rest) == 3 - done
    notes = transcriber.notes_of(blocks, settings, seconds=len(short) / 16_000)
    assert notes == transcriber.transcribe(short, settings)


def test_the_batch_size_changes_no_id(audio: NDArray[np.float32]) -> None:
    transcriber = opened()
    rows = [
        [each.row for each in transcriber.transcripts(audio, TranscriptionConfig(batch_size=size))]
        for size in (1, 7, 64)
    ]
    assert rows[0] == rows[1] == rows[2]


def test_a_finished_row_leaves_the_batch() -> None:
    model = opened().model
    source = model.encode(torch.randn(6, 32, 16))
    together = decode_rows(model, source, max_tokens=24)
    assert together == [row for each in source for row in decode_rows(model, each[None], max_tokens=24)]


@pytest.mark.parametrize("kind", KINDS)
def test_notes_are_streamed_while_the_recording_is_read(audio: NDArray[np.float32], kind: str) -> None:
    memory, settings = KINDS[kind]
    transcriber, short = opened(memory), audio[: 9 * 32 * 128]
    parts = list(transcriber.stream(short, settings))
    whole = transcriber.transcribe(short, settings)
    assert sorted(note for part in parts for note in part) == sorted(whole)
    assert len(parts) == 11  # 10 segments, and the notes that still sound at the end


def test_segments_at_the_limit_keep_their_notes_and_are_counted(audio: NDArray[np.float32]) -> None:
    transcriber, settings = opened(), TranscriptionConfig(max_tokens=6)
    transcripts = list(islice(transcriber.transcripts(audio, settings), 20))
    notes = transcriber.notes(transcripts, settings)
    assert notes.truncated_segments == sum(not each.row.complete for each in transcripts) > 0
    assert all(len(each.row.ids) == 5 for each in transcripts if not each.row.complete)


def test_constrained_ids_are_valid_and_allowed(audio: NDArray[np.float32]) -> None:
    transcriber = opened()
    free = transcriber.transcribe(audio)
    assert free.invalid_events + free.dropped_events > 0
    settings = TranscriptionConfig(constrained=True, programs=(3, 40), max_tokens=30)
    notes = transcriber.transcribe(audio, settings)
    assert (notes.invalid_events, notes.dropped_events) == (0, 0)
    assert {note.program for note in notes if not note.is_drum} <= {3, 40}
    assert notes


def test_banned_programs_are_never_written(audio: NDArray[np.float32]) -> None:
    known = vocabulary_of(NETWORK.vocabulary)
    programs = known.range("program")
    settings = TranscriptionConfig(programs=(7,))
    written = {
        index
        for each in opened().transcripts(audio, settings)
        for index in known.to_indices(each.row.ids)
        if index in programs
    }
    assert written <= {known.index("program", 7)}


@pytest.mark.parametrize("samples", [0, 1, 159])
def test_less_than_10_ms_is_refused(samples: int) -> None:
    with pytest.raises(AudioError, match="give at least 10 ms"):
        opened().transcribe(np.zeros(samples, np.float32))


def test_silence_and_the_shortest_recording_are_transcribed() -> None:
    for samples in (160, 16_000):
        notes = opened().transcribe(np.zeros(samples, np.float32), TranscriptionConfig(constrained=True))
        assert notes.seconds == samples / 16_000
