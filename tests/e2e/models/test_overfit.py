"""A small model learns one song by heart: its ids are the targets, also through MIDI; not with another spectrogram.

By section 12 of the README of the golden vectors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.audio.files import read_audio
from jukebox_core.evaluation.notes import evaluate
from jukebox_core.families.mt3.config import TranscriptionConfig
from jukebox_core.families.mt3.events.segments import frame_count, segment_count
from jukebox_core.families.mt3.model.front_end import FrontEnd
from jukebox_core.families.mt3.training.excerpts import Batch, Collate, Excerpt
from jukebox_core.families.mt3.training.initialise import new_model
from jukebox_core.families.mt3.training.step import TranscriberStep
from jukebox_core.families.mt3.training.targets import frame_kinds, segment_ids
from jukebox_core.families.mt3.transcription.transcriber import Transcriber
from jukebox_core.notes.midi import midi_bytes
from jukebox_core.notes.notes import parse_midi
from tests.helpers.models.mt3 import bundles, load, network, notes_of
from tests.parity.mt3.test_mt3_chain_golden import OtherFrontEnd

if TYPE_CHECKING:
    from pathlib import Path

STEPS, RATE, NOISE = 500, 2.5e-3, 0.05


def learned(step: TranscriberStep, batch: Batch, frames: torch.Tensor) -> float:
    """Trains on one batch; returns the last loss."""
    optimiser = torch.optim.AdamW(step.parameters(), RATE)
    generator = torch.Generator().manual_seed(0)
    for number in range(STEPS):
        for group in optimiser.param_groups:
            decay = 0.1 if number > 0.85 * STEPS else 0.3 if number > 0.6 * STEPS else 1.0
            group["lr"] = RATE * decay * min(1.0, (number + 1) / 60)
        noise = NOISE * torch.randn(batch.frames_BFM.shape, generator=generator)
        loss, _ = step(batch._replace(frames_BFM=batch.frames_BFM + noise * frames[..., None]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(step.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return float(loss.detach())


@pytest.mark.endurance
@pytest.mark.slow
def test_a_model_learns_one_song_by_heart(golden_mt3: Path) -> None:
    folder = next(
        each for each in bundles(golden_mt3, "chain.json") if "segmem_length" not in load(each / "chain.json")
    )
    data = load(folder / "chain.json")
    sizes, audio = network(data["config"]), read_audio(folder / "song.wav", rate=16_000)
    source, segments = notes_of(data["trimmed_source_notes"]), segment_count(len(audio), sizes.front_end)
    # 1) one batch of all segments
    front_end = FrontEnd(sizes.front_end)
    ids = segment_ids(sizes, source, segments)
    assert ids == data["target_ids"]
    kinds = torch.from_numpy(frame_kinds(sizes, source, segments))
    batch = Collate(sizes)([Excerpt(front_end(torch.from_numpy(audio)), ids, [], kinds)])
    inside = torch.arange(segments * sizes.front_end.segment_frames) < frame_count(len(audio), sizes.front_end.hop)
    # 2) training
    step = TranscriberStep(new_model(sizes, 0), 0.0, 1)
    last = learned(step, batch, inside.reshape(segments, -1).float())
    assert last < 0.02 < math.log(sizes.transformer.embeddings)
    # 3) its transcription
    transcriber = Transcriber(step.model.eval(), front_end)
    transcripts = list(transcriber.transcripts(audio, TranscriptionConfig()))
    assert [each.row.ids for each in transcripts] == ids
    notes = transcriber.notes(transcripts, TranscriptionConfig())
    assert (notes.invalid_events, notes.dropped_events) == (0, 0)
    for estimate in (notes, parse_midi(midi_bytes(notes), "x")):
        assert [score.f1 for score in evaluate(source, estimate)] == [1.0] * 4
    # 4) other spectrograms: the loss of the right ids grows, even where the song by heart is still recognised
    with torch.no_grad():
        right = float(step.eval()(batch)[0])
        for mistake, factor in (("power", 100), ("centred", 100), ("padding", 10), ("no replacement", 1.5)):
            frames = OtherFrontEnd(front_end, mistake)(torch.from_numpy(audio))
            assert float(step(batch._replace(frames_BFM=frames))[0]) > factor * right, mistake
    for mistake in ("power", "centred"):
        other = Transcriber(step.model, OtherFrontEnd(front_end, mistake))  # type: ignore[arg-type]
        found = other.notes(list(other.transcripts(audio, TranscriptionConfig())), TranscriptionConfig())
        assert evaluate(source, found).onset.f1 < 0.9, mistake
