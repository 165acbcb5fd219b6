"""Recordings to files of notes: stored block by block, resumed, and never overwritten."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jukebox_core.audio.files import write_audio
from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.evaluation.notes import evaluate
from jukebox_core.families.mt3.config import TranscriptionConfig
from jukebox_core.families.mt3.transcription import blocks, transcriber
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.notes.notes import Notes, read_notes
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.store.pins import Pins
from jukebox_core.store.store import TokenStore
from stages import stopping
from stages.fetch import fetch_checked_weights
from stages.resident import TranscriberSpec
from stages.sound.transcribe import Recording, check_transcripts, store_blocks, transcribe_file
from stages.sound.transcription_pins import is_abandoned
from tests.helpers.models.mt3 import bundles, load, notes_of, write_preset

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    monkeypatch.setattr(blocks, "SEGMENTS", 1)
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


def test_notes_are_written_as_lines_while_the_recording_is_read(
    spec: TranscriberSpec, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, store = replace(recording, lines=True), f"{recording.target}.store"
    path, grown, decode = Path(recording.target).with_suffix(".jsonl"), [], transcriber.decode_rows

    def watching(*given: Any, **options: Any) -> Any:
        grown.append(len(path.read_text().splitlines()))
        return decode(*given, **options)

    monkeypatch.setattr(transcriber, "decode_rows", watching)
    paths = transcribe_file(spec, recording, TranscriptionConfig(batch_size=1), store)
    head, *lines = map(json.loads, path.read_text().splitlines())
    assert (head["audio"], head["model"]) == ("song.wav", "chain")
    assert Notes.of(list(line.values()) for line in lines).notes == read_notes(paths[-1]).notes
    assert grown[0] == 1
    assert 1 < grown[-1] < len(lines) + 1  # before the last segment was read
    assert grown == sorted(grown)


def test_lines_of_an_interrupted_transcription_are_continued_and_those_of_others_kept(
    spec: TranscriberSpec, recording: Recording, chain: Path
) -> None:
    recording, store = replace(recording, lines=True), f"{recording.target}.store"
    path = Path(recording.target).with_suffix(".jsonl")
    whole = transcribe_file(spec, replace(recording, target=f"{recording.target}.whole.json"), SETTINGS, store)
    stopping.request_stop()
    with pytest.raises(stopping.StoppedError):
        transcribe_file(spec, recording, SETTINGS, f"{store}.other")
    stopping.clear_request()
    assert path.exists()
    assert check_transcripts(spec, [recording], SETTINGS) == [recording]
    with pytest.raises(ConfigError, match=r"song\.jsonl exists, and is not the transcript of"):
        check_transcripts(spec, [recording], TranscriptionConfig(max_tokens=30))
    transcribe_file(spec, recording, SETTINGS, f"{store}.other")
    assert path.read_bytes() == whole[-2].read_bytes()
    assert check_transcripts(spec, [recording], SETTINGS) == []


@pytest.mark.parametrize("name", ["song.mid", "song.csv", "song.jsonl"])
def test_a_file_beside_the_recording_is_not_overwritten(spec: TranscriberSpec, recording: Recording, name: str) -> None:
    recording = replace(recording, lines=True)
    mine = Path(recording.target).with_name(name)
    mine.parent.mkdir(exist_ok=True)
    mine.write_bytes(b"my own work")
    for work in (lambda: check_transcripts(spec, [recording], SETTINGS),
                 lambda: transcribe_file(spec, recording, SETTINGS, f"{recording.target}.store")):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{name} exists, and is not the transcript"):
            work()
    assert mine.read_bytes() == b"my own work"


def test_blocks_of_one_recording_may_be_stored_in_any_order(spec: TranscriberSpec, recording: Recording) -> None:
    whole = transcribe_file(spec, recording, SETTINGS, f"{recording.target}.whole")[-1].read_bytes()
    elsewhere = replace(recording, target=recording.target.replace("out", "again"))
    store = f"{recording.target}.store"
    store_blocks(spec, elsewhere, SETTINGS, store, 2, 9)  # there are four
    assert len(TokenStore(store).keys()) == 2
    store_blocks(spec, elsewhere, SETTINGS, store, 0, 1)
    [damaged, *_] = sorted(Path(store).rglob("windows/**/*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert transcribe_file(spec, elsewhere, SETTINGS, store)[-1].read_bytes() == whole
    assert TokenStore(store).keys() == TokenStore(f"{recording.target}.whole").keys()


@pytest.mark.parametrize("settings", [SETTINGS, TranscriptionConfig(constrained=True)], ids=["batches", "sequential"])
def test_blocks_are_pinned_until_the_notes_are_written(
    spec: TranscriberSpec, recording: Recording, settings: TranscriptionConfig
) -> None:
    store = f"{recording.target}.store"
    stopping.request_stop()
    with pytest.raises(stopping.StoppedError):
        transcribe_file(spec, recording, settings, store)
    stopping.clear_request()
    [pin] = Pins(store).all()
    assert len(pin.keys) == 4
    assert pin.keys > set(TokenStore(store).keys())
    assert not is_abandoned(pin)
    shutil.rmtree(Path(recording.target).parent)
    assert is_abandoned(pin)
    transcribe_file(spec, recording, settings, store)
    assert is_abandoned(pin)
    assert Pins(store).all() == []


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(
    spec: TranscriberSpec, recording: Recording, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"folder .*file/deep cannot be written \(Not a directory\); choose another"):
        check_transcripts(spec, [replace(recording, target=str(tmp_path / "file/deep/song.json"))], SETTINGS)


@pytest.mark.parametrize(
    ("seconds", "channels", "rate"),
    [(0.01, 1, 16_000), (0.6, 2, 44_100), (0.6, 1, 8_000)],
    ids=["10ms", "stereo", "8kHz"],
)
def test_any_length_layout_and_rate_is_transcribed(
    spec: TranscriberSpec, tmp_path: Path, seconds: float, channels: int, rate: int
) -> None:
    samples = 0.1 * np.random.default_rng(2).standard_normal((round(seconds * rate), channels))
    write_audio(tmp_path / "a.wav", samples, rate)
    recording = Recording(
        audio=str(tmp_path / "a.wav"), target=str(tmp_path / "out/a.json"), midi=True, csv=False, report=True
    )
    settings = TranscriptionConfig(max_tokens=12)
    paths = transcribe_file(spec, recording, settings, str(tmp_path / "store"))
    assert all(path.is_file() for path in paths)
    assert read_notes(paths[-1]).seconds == pytest.approx(seconds)
    write_audio(tmp_path / "b.wav", samples[: round(0.004 * rate)], rate)
    with pytest.raises(AudioError, match="give at least 10 ms"):
        transcribe_file(
            spec,
            replace(recording, audio=str(tmp_path / "b.wav"), target=str(tmp_path / "b.json")),
            settings,
            str(tmp_path / "store"),
        )


def test_what_was_lost_of_each_recording_is_counted_and_logged(
    spec: TranscriberSpec, recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "jukebox")
    paths = transcribe_file(spec, recording, TranscriptionConfig(max_tokens=30), f"{recording.target}.store")
    notes = read_notes(paths[-1])
    assert notes.truncated_segments == 4
    assert len(notes) > 5  # they are kept
    assert (
        f"{len(notes)} notes; {notes.invalid_events} invalid and 0 dropped events, 4 truncated segments" in caplog.text
    )
