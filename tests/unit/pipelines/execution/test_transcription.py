"""Which recordings `jukebox transcribe` finds, and what it refuses before anything is loaded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.audio.files import write_audio
from jukebox_core.errors import AudioError, CheckpointError, ConfigError, DeviceError, JukeboxError
from jukebox_core.notes.note import Note
from jukebox_core.notes.notes import Notes
from pipelines.cli.main import main
from pipelines.execution.transcription import check, find_recordings
from pipelines.flows.transcribe import transcribe_files
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.settings.compose import TRANSCRIBE, compose
from tests.helpers.mt3 import bundles, write_preset

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.settings.transcribe import TranscribeSettings


@pytest.fixture(scope="module")
def chain(golden_mt3: Path) -> Path:
    return next(folder for folder in bundles(golden_mt3, "chain.json") if (folder / "mt3.pth").is_file())


def sound(path: Path, seconds: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_audio(path, np.zeros(int(8000 * seconds) or 1, np.float32), 8000)


def settings(tmp_path: Path, chain: Path, *audio: object, **options: object) -> TranscribeSettings:
    preset = write_preset(tmp_path / "chain.yaml", chain)
    values = {"storage.root": tmp_path / "out", "weights.folder": tmp_path / "weights", **options}
    return compose(
        TRANSCRIBE,
        [f"model={preset}", f"audio=[{','.join(map(str, audio))}]", *(f"{k}={v}" for k, v in values.items())],
    )


def test_hardware_that_cannot_transcribe_is_refused_before_anything_is_read(tmp_path: Path, chain: Path) -> None:
    audio = sound(tmp_path / "one.wav")
    with pytest.raises(DeviceError, match="'graph'; transcription has auto, eager, and native on the CPU"):
        check(settings(tmp_path, chain, audio, **{"hardware.engine": "graph"}))


def test_files_folders_and_runs_are_found(tmp_path: Path, chain: Path) -> None:
    one = sound(tmp_path / "one.wav")
    for name in ("b.flac", "deep/a.WAV", ".hidden/c.wav", "notes.txt"):
        sound(tmp_path / "music" / name) if not name.endswith(("txt", "WAV")) else (tmp_path / "music" / name)
    sound(tmp_path / "music/deep/a.wav")
    sound(tmp_path / "run/audio/song.wav")
    sound(tmp_path / "run/audio/preview/song.wav")
    (tmp_path / "run/manifest.json").write_text("{}")
    found = find_recordings(settings(tmp_path, chain, one, tmp_path / "music", tmp_path / "run", csv="true"))
    out = tmp_path / "out/transcripts"
    assert [(each.audio, each.target) for each in found] == [
        (str(one), str(out / "one.json")),
        (str(tmp_path / "music/b.flac"), str(out / "b.json")),
        (str(tmp_path / "music/deep/a.wav"), str(out / "deep/a.json")),
        (str(tmp_path / "run/audio/song.wav"), str(out / "song.json")),
    ]
    assert [path.suffix for path in found[0].paths] == [".mid", ".csv", ".json"]


def test_what_cannot_be_transcribed_is_refused_before_the_work(tmp_path: Path, chain: Path) -> None:
    (tmp_path / "empty").mkdir()
    Notes.of([Note(0, 1, 60)]).to_midi(tmp_path / "x.mid")
    cases: list[tuple[object, type[JukeboxError], str]] = [
        (tmp_path / "none.wav", AudioError, "does not exist"),
        (tmp_path / "empty", ConfigError, "holds no .wav"),
        (tmp_path / "x.mid", AudioError, "x.mid"),
    ]
    for audio, kind, words in cases:
        with pytest.raises(kind, match=re.escape(words)):
            check(settings(tmp_path, chain, audio))
    sound(tmp_path / "a/x.wav")
    sound(tmp_path / "b/x.wav")
    with pytest.raises(ConfigError, match="would both become"):
        check(settings(tmp_path, chain, tmp_path / "a/x.wav", tmp_path / "b/x.wav"))


def test_a_checkpoint_of_another_model_is_refused_before_the_work(tmp_path: Path, chain: Path) -> None:
    audio = sound(tmp_path / "x.wav")
    asked = settings(tmp_path, chain, audio, **{"model.network.transformer.encoder_depth": 3})
    with pytest.raises(CheckpointError, match="is not a checkpoint of this model"):
        check(asked)


def test_every_recording_of_a_folder_is_transcribed(tmp_path: Path, chain: Path) -> None:
    for name in ("a.wav", "b/c.wav"):
        sound(tmp_path / "music" / name)
    asked = settings(tmp_path, chain, tmp_path / "music", **{"transcription.max_tokens": 12})
    recordings = check(asked)
    written = transcribe_files(asked, recordings, PLAIN)
    out = tmp_path / "out/transcripts"
    assert written == [str(out / "a.mid"), str(out / "b/c.mid")]
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["a.json", "a.mid", "c.json", "c.mid"]


@pytest.mark.parametrize("command", ["transcribe", "encode"])
def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, chain: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "out" / f"{command}.log").mkdir(parents=True)  # stands for a file system that is read-only
    model = [f"model={write_preset(tmp_path / 'chain.yaml', chain)}"] if command == "transcribe" else []
    audio, where = sound(tmp_path / "x.wav"), [f"folder={tmp_path}/out", f"storage.root={tmp_path}/root"]
    assert main([command, *model, f"audio=[{audio}]", f"weights.folder={tmp_path}/weights", *where]) == 2
    message = capsys.readouterr().err
    assert f"{tmp_path}/out/{command}.log cannot be written: a folder is in its place; move that away" in message


def test_notes_are_compared_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music = Notes.of([Note(0, 1, 60), Note(1, 2, 62, 90, 33), Note(0.5, 0.51, 36, 90, 0, is_drum=True)])
    music.to_midi(tmp_path / "right.mid")
    Notes.of(music[1:]).to_json(tmp_path / "found.json")
    arguments = ["evaluate", f"reference={tmp_path / 'right.mid'}", f"estimate={tmp_path / 'found.json'}"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["PRECISION", "RECALL", "F1"]
    assert lines[1].split() == ["onset", "1.000", "0.500", "0.667"]
    assert main(["evaluate", f"reference={tmp_path / 'none.mid'}", "estimate=x"]) == 2
    assert "none.mid cannot be read" in capsys.readouterr().err


def test_a_batch_that_the_machine_cannot_hold_is_refused_before_anything_is_loaded(tmp_path: Path, chain: Path) -> None:
    given = settings(tmp_path, chain, sound(tmp_path / "a.wav"), **{"transcription.batch_size": 10**9})
    with pytest.raises(ConfigError, match=r"needs about .* of memory, but cpu has .*; lower transcription\.batch_size"):
        check(given)
