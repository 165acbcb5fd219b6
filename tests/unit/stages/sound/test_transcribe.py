"""Recordings to files of notes: stored block by block, resumed, and never overwritten."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.evaluation.notes import evaluate
from jukebox_core.families.mt3.config import TranscriptionConfig
from jukebox_core.families.mt3.transcription import transcriber
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.notes.notes import Notes, read_notes
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.store.store import TokenStore
from stages import stopping
from stages.fetch import fetch_checked_weights
from stages.resident import TranscriberSpec
from stages.sound.transcribe import Recording, check_transcripts, transcribe_file
from tests.helpers.mt3 import bundles, load, notes_of, write_preset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = TranscriptionConfig(batch_size=2)


@pytest.fixture(scope="module")
def chain(golden_mt3: Path) -> Path:
    return next(folder for folder in bundles(golden_mt3, "chain.json") if (folder / "mt3.pth").is_file())


@pytest.fixture(scope="module")
def spec(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> TranscriberSpec:
    folder = tmp_path_factory.mktemp("model")
    preset = load_preset(write_preset(folder / "chain.yaml", chain))
    weights = fetch_checked_weights(preset, WeightsConfig(folder=str(folder / "weights")))["transcriber"]
    return TranscriberSpec(family="mt3", config=preset.config, weights=weights, hardware=HardwareConfig(device="cpu"))


@pytest.fixture(autouse=True)
def one_segment_a_block(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(transcriber, "SEGMENTS", 1)
    yield
    stopping.clear_request()


@pytest.fixture
def recording(chain: Path, tmp_path: Path) -> Recording:
    shutil.copy(chain / "song.wav", tmp_path / "song.wav")
    return Recording(audio=str(tmp_path / "song.wav"), target=str(tmp_path / "out/song.json"), midi=True, csv=True)


def test_a_recording_becomes_midi_csv_and_json(spec: TranscriberSpec, recording: Recording, chain: Path) -> None:
    store = f"{recording.target}.store"
    paths = transcribe_file(spec, recording, SETTINGS, store)
    assert [path.suffix for path in paths] == [".mid", ".csv", ".json"]
    source = notes_of(load(chain / "chain.json")["source_notes"])
    for path in (paths[0], paths[2]):
        assert evaluate(source, read_notes(path)).multi_instrument.f1 == 1.0
    data = json.loads(paths[2].read_text())
    assert (data["audio"], data["model"], data["truncated_segments"]) == ("song.wav", "chain", 0)
    assert len(TokenStore(store).keys()) == 4


def test_finished_files_and_blocks_are_kept(
    spec: TranscriberSpec, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"{recording.target}.store"
    midi, _, notes = transcribe_file(spec, recording, SETTINGS, store)
    content, written = midi.read_bytes(), notes.stat().st_mtime_ns

    def no_work(*_: Any, **__: Any) -> None:
        raise AssertionError("everything is there already")

    monkeypatch.setattr(transcriber, "decode_rows", no_work)
    transcribe_file(spec, recording, SETTINGS, store)
    assert notes.stat().st_mtime_ns == written
    midi.unlink()
    transcribe_file(spec, recording, SETTINGS, store)
    assert midi.read_bytes() == content
    for path in recording.paths:
        path.unlink()
    transcribe_file(spec, recording, SETTINGS, store)  # from the blocks in the store
    assert midi.read_bytes() == content


@pytest.mark.parametrize("settings", [SETTINGS, TranscriptionConfig(constrained=True)], ids=["batches", "sequential"])
def test_a_stop_after_any_block_loses_nothing(
    spec: TranscriberSpec, recording: Recording, monkeypatch: pytest.MonkeyPatch, settings: TranscriptionConfig
) -> None:
    whole = transcribe_file(spec, recording, settings, f"{recording.target}.whole")[-1].read_bytes()
    elsewhere = replace(recording, target=recording.target.replace("out", "again"))
    store, decoded, decode = f"{recording.target}.store", [], transcriber.decode_rows

    def counting(model: Any, source: Any, **options: Any) -> Any:
        decoded.append(len(source))
        return decode(model, source, **options)

    monkeypatch.setattr(transcriber, "decode_rows", counting)
    stops = 0
    while True:
        stopping.request_stop()
        try:
            [*_, path] = transcribe_file(spec, elsewhere, settings, store)
            break
        except stopping.StoppedError:
            stops += 1
            stopping.clear_request()
    assert stops == 3  # after each block but the last
    assert path.read_bytes() == whole
    assert sum(decoded) <= 4 + 3 * (settings.batch_size if not settings.constrained else 0)


def test_keys_do_not_depend_on_the_batch_size_and_do_on_settings(spec: TranscriberSpec, recording: Recording) -> None:
    store = f"{recording.target}.store"
    transcribe_file(spec, recording, SETTINGS, store)
    keys = TokenStore(store).keys()
    transcribe_file(spec, recording, TranscriptionConfig(batch_size=5), store)
    assert TokenStore(store).keys() == keys
    for number, changed in enumerate(("bfloat16", "int8"), start=1):  # notes can differ
        rounded = replace(spec, hardware=replace(spec.hardware, dtype=changed))
        transcribe_file(rounded, replace(recording, target=f"{recording.target}{number}.json"), SETTINGS, store)
        assert len(TokenStore(store).keys()) == (number + 1) * len(keys)
    store = f"{recording.target}.others"
    transcribe_file(spec, replace(recording, target=f"{recording.target}3.json"), SETTINGS, store)
    assert TokenStore(store).keys() == keys
    other = replace(recording, target=f"{recording.target}.json")
    transcribe_file(spec, other, TranscriptionConfig(max_tokens=30), store)
    assert len(TokenStore(store).keys()) == 2 * len(keys)


def test_other_files_are_never_overwritten(spec: TranscriberSpec, recording: Recording, chain: Path) -> None:
    store = f"{recording.target}.store"
    target = transcribe_file(spec, recording, SETTINGS, store)[-1]
    check_transcripts(spec, [recording], SETTINGS)
    with pytest.raises(ConfigError, match="nothing is overwritten: remove it, or choose another folder"):
        check_transcripts(spec, [recording], TranscriptionConfig(max_tokens=30))
    shutil.copy(chain / "other.wav", recording.audio)
    with pytest.raises(ConfigError, match="is not the transcript of"):
        transcribe_file(spec, recording, SETTINGS, store)
    for content in ("", "{}", "[]", Notes().to_json()):
        target.write_text(content)
        with pytest.raises(ConfigError, match="is not the transcript of"):
            check_transcripts(spec, [recording], SETTINGS)


def test_what_is_no_recording_is_refused_by_name(spec: TranscriberSpec, recording: Recording, tmp_path: Path) -> None:
    Notes().to_midi(tmp_path / "x.mid")
    with pytest.raises(AudioError, match=r"x\.mid"):
        transcribe_file(spec, replace(recording, audio=str(tmp_path / "x.mid")), SETTINGS, str(tmp_path / "store"))
