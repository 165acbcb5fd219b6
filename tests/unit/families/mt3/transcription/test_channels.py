"""Models that decode several channels of instruments: YourMT3."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.mt3.config import (
    LinearFrontEndConfig,
    MT3Network,
    PerceiverConfig,
    TranscriptionConfig,
    TransformerConfig,
    VocabularyConfig,
)
from jukebox_core.families.mt3.events.segments import segment_count, segment_start
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.model.transformer import MT3
from jukebox_core.families.mt3.transcription import transcriber as transcriber_module
from jukebox_core.families.mt3.transcription.blocks import Row
from jukebox_core.families.mt3.transcription.transcriber import Transcriber, Transcript, open_transcriber
from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNELS = 3
TINY = MT3Network(
    front_end=LinearFrontEndConfig(hop=64, fft=128, segment_samples=2000),
    vocabulary=VocabularyConfig(max_shift_steps=205),
    transformer=TransformerConfig(
        width=16, heads=2, head_width=8, mlp_width=16, encoder_depth=0, decoder_depth=1, embeddings=596, max_tokens=20
    ),
    perceiver=PerceiverConfig(
        convolutions=4, latents=6, width=8, heads=2, blocks=1, local_depth=1, temporal_depth=1, experts=3,
        experts_used=2, mlp_width=12, channels=CHANNELS, positions=24,
    ),
)  # fmt: skip
KINDS = {
    "plain": TranscriptionConfig(batch_size=8),
    "constrained": TranscriptionConfig(constrained=True),
    "programs": TranscriptionConfig(programs=(3, 40)),
}


@pytest.fixture
def transcriber() -> Transcriber:
    torch.manual_seed(5)
    model = MT3(TINY).eval().requires_grad_(requires_grad=False)
    for name, parameter in model.named_parameters():
        if not name.startswith("encoder.convolutions"):
            parameter.normal_(std=0.6)  # so that segments and channels differ
    return open_transcriber(model)


@pytest.fixture
def audio() -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 0.1, 9 * 2000 - 500).astype(np.float32)  # 9 segments


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcriber_module, "SEGMENTS", 4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_transcription_of_channels_is_resumed_after_any_block(
    transcriber: Transcriber, audio: NDArray[np.float32], kind: str
) -> None:
    settings = KINDS[kind]
    blocks = list(transcriber.blocks(audio, settings))
    assert len(blocks) == transcriber.block_count(len(audio)) == 3
    for done in range(4):
        rest = list(transcriber.blocks(audio, settings, blocks[:done]))
        assert all(map(np.array_equal, blocks[done:], rest))
        assert len(rest) == 3 - done
    notes = transcriber.notes_of(blocks, settings, seconds=len(audio) / 16_000)
    assert notes == transcriber.transcribe(audio, settings)
    parts = list(transcriber.stream(audio, settings))
    assert len(parts) == 10
    assert sorted(note for part in parts for note in part) == sorted(notes)


def test_every_segment_has_a_row_for_each_channel_whatever_the_batch(
    transcriber: Transcriber, audio: NDArray[np.float32]
) -> None:
    found = [
        list(transcriber.transcripts(audio, TranscriptionConfig(batch_size=size))) for size in (1, CHANNELS * 2, 100)
    ]
    assert found[0] == found[1] == found[2]
    assert [each.channel for each in found[0]] == list(range(CHANNELS)) * 9
    assert len({tuple(each.row.ids) for each in found[0]}) > CHANNELS  # segments differ, and channels


def test_constrained_ids_of_all_channels_are_valid(transcriber: Transcriber, audio: NDArray[np.float32]) -> None:
    free = transcriber.transcribe(audio)
    assert free.invalid_events + free.dropped_events > 0
    notes = transcriber.transcribe(audio, TranscriptionConfig(constrained=True))
    assert (notes.invalid_events, notes.dropped_events) == (0, 0)
    assert notes


def test_channels_do_not_end_each_others_notes(transcriber: Transcriber) -> None:
    known = vocabulary_of(TINY.vocabulary)

    def row(*events: tuple[str, int], complete: bool = True) -> Row:
        return Row(known.to_ids(known.index(kind, value) for kind, value in events), complete)  # type: ignore[arg-type]

    nothing = row(("tie", 0))
    onset = (("tie", 0), ("program", 5), ("velocity", 1), ("pitch", 60))
    rows = [
        row(*onset),
        row(("tie", 0), ("shift", 3), ("velocity", 1), ("drum", 36)),
        nothing,
        row(("program", 5), ("pitch", 60), ("tie", 0), ("shift", 4), ("velocity", 0), ("pitch", 60)),
        nothing,
        row(("tie", 0), ("shift", 1), complete=False),
    ]
    starts = [0.0] * CHANNELS + [0.12] * CHANNELS
    transcripts = [Transcript(start, each, at % CHANNELS) for at, (start, each) in enumerate(zip(starts, rows))]  # noqa: B905
    notes = transcriber.notes(transcripts, TranscriptionConfig())
    assert [(n.start, n.end, n.pitch, n.program, n.is_drum) for n in notes] == [
        (0.0, pytest.approx(0.16), 60, 5, False),
        (0.03, pytest.approx(0.04), 36, 0, True),
    ]
    assert (notes.invalid_events, notes.dropped_events, notes.truncated_segments) == (0, 0, 1)


def test_segments_of_yourmt3_begin_at_the_nearest_step() -> None:
    front_end = load_preset("yourmt3").network.front_end
    assert [segment_start(index, front_end, 100, parity=False) for index in range(5)] == [0.0, 2.05, 4.1, 6.14, 8.19]
    size = front_end.segment_samples
    assert [segment_count(samples, front_end) for samples in (1, size, size + 1, 3 * size)] == [1, 1, 2, 3]


def test_silence_is_a_spectrogram_of_zeros(transcriber: Transcriber) -> None:
    assert not transcriber.front_end(torch.zeros(3000)).any()
    assert transcriber.transcribe(np.zeros(3000, np.float32), KINDS["constrained"]).seconds == 3000 / 16_000


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (TranscriptionConfig(parity=True), "parity is true, but of YourMT3 no defects are recorded"),
        (TranscriptionConfig(max_tokens=26), "max_tokens is 26, but the model has 24 positions"),
    ],
    ids=str,
)
def test_what_the_model_cannot_do_is_refused(
    transcriber: Transcriber, settings: TranscriptionConfig, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        transcriber.transcribe(np.zeros(3000, np.float32), settings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 3}, r"width is 8; it must be a multiple of 4 \* heads, 12"),
        ({"latents": 7}, "latents is 7; it must be a multiple of channels, 3"),
        ({"experts_used": 4}, "experts_used is 4; the model has 3 experts"),
        ({"blocks": 0}, "blocks is 0; it must be positive"),
        ({"positions": 18}, "max_tokens is 20, but perceiver.positions has 18 rows"),
        ({"width": 16}, "perceiver.width is 16, but of 64 frequencies .* leave 8"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, int], words: str) -> None:
    perceiver = TINY.perceiver
    assert perceiver is not None
    with pytest.raises(ConfigError, match=words):
        replace(TINY, perceiver=replace(perceiver, **changes))


def test_parts_that_exclude_each_other_are_refused() -> None:
    mt3 = load_preset("mt3").network
    for network, changes, words in (
        (TINY, {"transformer": replace(TINY.transformer, encoder_depth=1)}, "encoder_depth is 1; with a perceiver"),
        (TINY, {"transformer": replace(TINY.transformer, positions="port")}, "positions is 'port'; with a perceiver"),
        (TINY, {"memory": load_preset("mr_mt3").network.memory}, "memory is given; a model with a perceiver"),
        (mt3, {"transformer": replace(mt3.transformer, encoder_depth=0)}, "encoder_depth is 0; it must be positive"),
        (mt3, {"front_end": TINY.front_end}, "front_end is linear, which a perceiver reads"),
    ):
        with pytest.raises(ConfigError, match=words):
            replace(network, **changes)
    with pytest.raises(ConfigError, match="segments are mirrored at their ends and need 1025 or more"):
        LinearFrontEndConfig(segment_samples=1024)
