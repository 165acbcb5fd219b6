from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jukebox_core.api.model import load_model
from jukebox_core.audio.files import read_audio
from jukebox_core.errors import AudioError, ConfigError, DownloadError
from jukebox_core.evaluation.notes import evaluate
from jukebox_core.families.mt3.config import TranscriptionConfig
from jukebox_core.notes.notes import Notes
from tests.helpers.models.mt3 import bundles, load, notes_of, write_preset

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def chain(golden_mt3: Path) -> Path:
    return next(folder for folder in bundles(golden_mt3, "chain.json") if (folder / "mt3.pth").is_file())


@pytest.fixture(scope="module")
def model(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("api")
    return load_model(write_preset(folder / "chain.yaml", chain), folder=folder / "weights")


def test_a_file_becomes_notes(model: Any, chain: Path) -> None:
    notes = model.transcribe(chain / "song.wav")
    assert evaluate(notes_of(load(chain / "chain.json")["source_notes"]), notes).multi_instrument.f1 == 1.0
    assert (notes.invalid_events, notes.dropped_events, notes.truncated_segments) == (0, 0, 0)
    assert notes.seconds == pytest.approx(7.3, abs=0.01)
    assert notes.piano_roll().any()
    streamed = [note for part in model.stream(chain / "song.wav") for note in part]
    assert sorted(streamed) == sorted(notes)


def test_samples_of_any_layout_and_rate_become_the_same_notes(model: Any, chain: Path) -> None:
    samples = read_audio(chain / "song.wav", rate=16_000)
    notes = model.transcribe(samples)
    assert model.transcribe(np.stack([samples * 2, samples * 0], axis=1)) == notes
    source = notes_of(load(chain / "chain.json")["source_notes"])
    high = model.transcribe(read_audio(chain / "song.wav", rate=48_000), rate=48_000)
    assert evaluate(source, high).onset.f1 > 0.5  # a tiny model that knows the song by heart, after resampling


@pytest.mark.parametrize(
    ("audio", "options", "words"),
    [
        (np.zeros(100, np.float32), {}, "lasts 6.2 ms; give at least 10 ms"),
        (np.full(1000, np.nan), {}, "not finite"),
        (np.zeros((2, 3, 4)), {}, r"shape \(2, 3, 4\)"),
        (np.zeros((2, 4000)), {}, r"give mono \[time\] or \[time, channels\]"),
        (["a"], {}, "no array of numbers"),
        (np.zeros(1000), {"rate": 0}, "rate is 0"),
        ("missing.wav", {}, "does not exist"),
    ],
    ids=str,
)
def test_bad_audio_is_refused(model: Any, audio: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(AudioError, match=words):
        model.transcribe(audio, **options)


def test_a_midi_file_as_audio_is_refused(model: Any, tmp_path: Path) -> None:
    Notes().to_midi(tmp_path / "x.mid")
    with pytest.raises(AudioError, match=r"x\.mid"):
        model.transcribe(tmp_path / "x.mid")


def test_silence_becomes_what_the_model_hears_in_it_and_nothing_breaks(model: Any) -> None:
    for settings in ({}, {"constrained": True}, {"parity": True}):
        notes = model.transcribe(np.zeros(8000), settings=TranscriptionConfig(max_tokens=40, **settings))
        assert notes.seconds == 0.5


def test_weights_that_are_absent_are_named_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUKEBOX_ACCEPT_LICENCE", raising=False)
    with pytest.raises(DownloadError, match=r"(?s)offline, and 1 file is not on this machine.*mt3\.pth"):
        load_model("mt3", folder=tmp_path, offline=True).transcribe(np.zeros(1600))
    with pytest.raises(DownloadError, match="published nowhere in a form that can be read"):
        load_model("ismir2021_piano", folder=tmp_path, offline=True).transcribe(np.zeros(1600))


def test_the_missing_licence_is_stated_before_the_first_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUKEBOX_ACCEPT_LICENCE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(ConfigError, match=r"nothing was fetched: .*none declared for these weights"):
        load_model("mt3", folder=tmp_path).transcribe(np.zeros(1600))
