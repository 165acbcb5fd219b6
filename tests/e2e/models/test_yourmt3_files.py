"""What `jukebox transcribe` does with a small YourMT3, from its checkpoint to MIDI; without Prefect's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from jukebox_core.api.model import load_model
from jukebox_core.errors import ConfigError
from jukebox_core.families.mt3.config import TranscriptionConfig
from jukebox_core.notes.notes import read_notes
from pipelines.execution.transcription import check
from pipelines.flows.transcribe import transcribe_files
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.settings.compose import TRANSCRIBE, compose
from tests.helpers.models.mt3 import arrays, bundles, load
from tests.helpers.models.yourmt3 import network, weights, write_checkpoint, write_preset

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_recording_becomes_midi_and_again_nothing_is_computed(golden_mt3: Path, tmp_path: Path) -> None:
    folder = bundles(golden_mt3, "yourmt3.json")[0]
    data = load(folder / "yourmt3.json")
    checkpoint = write_checkpoint(tmp_path / "last.ckpt", weights(data))
    preset = write_preset(tmp_path / "tiny.yaml", network(data), checkpoint)
    audio = arrays(folder / "io.npz")["audio_int16"]
    soundfile.write(tmp_path / "song.wav", np.tile(audio, 2)[:-9000], data["audio_cfg"]["sample_rate"])
    command = [f"model={preset}", f"audio=[{tmp_path}/song.wav]", f"storage.root={tmp_path}/out",
               f"weights.folder={tmp_path}/weights"]  # fmt: skip
    settings = compose(TRANSCRIBE, [*command, "transcription.constrained=true"])
    [written] = transcribe_files(settings, check(settings), PLAIN)
    midi = tmp_path / "out" / "transcripts" / "song.mid"
    assert written == str(midi)
    notes, made = read_notes(midi.with_suffix(".json")), midi.with_suffix(".json").stat().st_mtime_ns
    assert len(read_notes(midi)) == len(notes) > 0
    assert (notes.invalid_events, notes.dropped_events) == (0, 0)
    model = load_model(preset, folder=tmp_path / "weights")
    assert model.transcribe(tmp_path / "song.wav", settings=TranscriptionConfig(constrained=True)) == notes
    transcribe_files(settings, check(settings), PLAIN)
    assert midi.with_suffix(".json").stat().st_mtime_ns == made
    with pytest.raises(ConfigError, match=r"transcription\.parity is true, but of YourMT3 no defects are recorded"):
        compose(TRANSCRIBE, [*command, "transcription.parity=true"])
