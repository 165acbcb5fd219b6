"""Which recordings `jukebox transcribe` finds, and what it refuses before anything is loaded."""

from __future__ import annotations

import json
import re
import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jukebox_core.audio.files import write_audio
from jukebox_core.errors import AudioError, CheckpointError, ConfigError, DeviceError, JukeboxError
from jukebox_core.families.mt3.transcription import blocks, transcriber
from jukebox_core.notes.note import Note
from jukebox_core.notes.notes import Notes
from pipelines.cli.main import main
from pipelines.execution import transcription
from pipelines.execution.transcription import check, find_recordings
from pipelines.flows.transcribe import transcribe_files
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.settings.common import RunnerSettings
from pipelines.settings.compose import TRANSCRIBE, compose
from stages.sound.transcribe import Recording
from tests.helpers.fake_runs import add_songs, fake_run
from tests.helpers.models.mt3 import bundles, write_preset

if TYPE_CHECKING:
    from collections.abc import Callable

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
    with pytest.raises(DeviceError, match="'graph'; transcription has auto, eager, onnx, and native on the CPU"):
        check(settings(tmp_path, chain, audio, **{"hardware.engine": "graph"}))


def test_files_folders_and_runs_are_found(tmp_path: Path, chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = {"storage.root": "outputs"}
    one = sound(tmp_path / "one.wav")
    for name in ("b.flac", "deep/a.WAV", ".hidden/c.wav", "notes.txt"):
        sound(tmp_path / "music" / name) if not name.endswith(("txt", "WAV")) else (tmp_path / "music" / name)
    sound(tmp_path / "music/deep/a.wav")
    add_songs(fake_run("first", "seconds=1", "sampling=top_only"), (2, 0, 1), (2,))
    add_songs(fake_run("other", "seconds=1", "sampling=top_only"), (2,))
    found = find_recordings(
        settings(tmp_path, chain, one, tmp_path / "music", "first", "outputs/other", csv="true", report="true", **root)
    )
    out = Path("outputs/transcripts")
    assert [(each.audio, each.target, each.named) for each in found] == [
        (str(one), str(out / "one.json"), True),
        (str(tmp_path / "music/b.flac"), str(out / "b.json"), False),
        (str(tmp_path / "music/deep/a.wav"), str(out / "deep/a.json"), False),
        ("outputs/first/audio/level_0/sample_0.wav", str(out / "first/sample_0.json"), True),
        ("outputs/first/audio/level_2/sample_1.wav", str(out / "first/sample_1.json"), True),
        ("outputs/other/audio/level_2/sample_0.wav", str(out / "other/sample_0.json"), True),
    ]
    assert [path.suffix for path in found[0].paths] == [".mid", ".csv", ".html", ".json"]
    fake_run("silent", "seconds=1", "sampling=top_only")
    with pytest.raises(ConfigError, match="run silent has no audio yet"):
        find_recordings(settings(tmp_path, chain, "silent", **root))


def test_a_name_that_notes_cannot_have_leaves_the_others_of_the_folder(
    tmp_path: Path, chain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "music"
    odd = [sound(folder / "two\nlines.wav"), sound(folder / f"{'x' * 251}.wav")]
    with pytest.raises(ConfigError, match="no recording has a name from which that of its notes could be made"):
        find_recordings(settings(tmp_path, chain, folder))
    sound(folder / "one.wav")
    caplog.clear()
    [found] = find_recordings(settings(tmp_path, chain, folder))
    assert found.audio == str(folder / "one.wav")
    assert [record.args[0] for record in caplog.records if record.args] == sorted(odd)  # type: ignore[index]
    with pytest.raises(ConfigError, match="has a part of 256 bytes"):
        find_recordings(settings(tmp_path, chain, odd[1]))


def test_what_cannot_be_transcribed_is_refused_before_the_work(tmp_path: Path, chain: Path) -> None:
    (tmp_path / "empty").mkdir()
    Notes.of([Note(0, 1, 60)]).to_midi(tmp_path / "x.mid")
    cases: list[tuple[object, type[JukeboxError], str]] = [
        (tmp_path / "none.wav", AudioError, "does not exist"),
        (tmp_path / "empty", ConfigError, "holds no .wav"),
        (tmp_path / "x.mid", AudioError, "x.mid"),
        (tmp_path / "short.wav", AudioError, "short.wav lasts 5.0 ms; give at least 10 ms"),
    ]
    write_audio(tmp_path / "short.wav", np.zeros(80, np.float32), 16000)
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


def test_recordings_of_a_folder_that_cannot_be_read_are_left_out(
    tmp_path: Path, chain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "abc":
        sound(tmp_path / f"music/{name}.wav")
    (tmp_path / "music/b.wav").write_text("no sound")
    write_audio(tmp_path / "music/d.wav", np.zeros(80, np.float32), 16000)
    asked = settings(tmp_path, chain, tmp_path / "music", **{"transcription.max_tokens": 12})
    recordings = check(asked)
    assert [Path(each.audio).name for each in recordings] == ["a.wav", "c.wav"]
    assert "d.wav lasts 5.0 ms; give at least 10 ms" in caplog.text
    assert "b.wav is left out" in caplog.text
    (tmp_path / "music/c.wav").write_text("damaged after the checks")
    [written] = transcribe_files(asked, recordings, PLAIN)
    assert Path(written).name == "a.mid"
    assert "c.wav is left out" in caplog.text
    with pytest.raises(AudioError, match=r"none of 1 recordings could be used; the first: .*c\.wav"):
        transcribe_files(asked, recordings[1:], PLAIN)
    (tmp_path / "music/a.wav").unlink()  # whose transcript exists
    sound(tmp_path / "music/c.wav")
    [written] = transcribe_files(asked, recordings, PLAIN)
    assert Path(written).name == "c.mid"
    assert "a.wav is left out" in caplog.text
    (tmp_path / "music/c.wav").unlink()
    with pytest.raises(AudioError, match="none of 2 recordings can be used"):
        check(asked)


class Threads:
    """Workers like those of a thread pool, without Prefect."""

    count = 3

    def __init__(self, work: Callable[..., Any], *given: Any) -> None:
        self._work, self._given = work, given
        self._pool, self._running = ThreadPoolExecutor(self.count), deque[tuple[Any, Future[Any]]]()

    def submit(self, unit: Any) -> None:
        self._running.append((unit, self._pool.submit(self._work, *self._given, unit.nodes)))

    def next_finished(self) -> tuple[Any, Any]:
        unit, future = self._running.popleft()
        return unit, future.result()


def test_workers_write_the_same_files_and_share_the_blocks_of_a_long_recording(
    tmp_path: Path, chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (transcriber, blocks):
        monkeypatch.setattr(module, "SEGMENTS", 1)
    monkeypatch.setattr(transcription, "_BLOCKS", 1)
    shutil.copy(chain / "song.wav", tmp_path / "song.wav")
    nodes: list[Any] = []

    def work(job: Any, context: Any, given: Any) -> Any:
        nodes.append(given[0].blocks)
        return PLAIN.transcribe_unit(job, context, given)

    written = {}
    for workers in (1, 3):
        options: dict[str, object] = {
            "folder": tmp_path / f"{workers}",
            "storage.tokens": tmp_path / f"{workers}.store",
        }
        options["transcription.max_tokens"] = "20"
        asked = settings(tmp_path, chain, tmp_path / "song.wav", sound(tmp_path / "short.wav"), **options)
        if workers == 3:
            asked = replace(asked, runner=RunnerSettings(workers=3))
            own = lambda _, __, job, context: nullcontext(Threads(work, job, context))  # noqa: E731
            monkeypatch.setattr(transcription, "open_workers", own)
        transcribe_files(asked, check(asked), PLAIN)
        written[workers] = {path.name: path.read_bytes() for path in (tmp_path / f"{workers}").iterdir()}
    assert written[1] == written[3]
    assert set(written[1]) == {"song.json", "song.mid", "short.json", "short.mid"}
    assert [each for each in nodes if each] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_the_files_of_a_recording_are_written_after_the_last_of_its_blocks(tmp_path: Path) -> None:
    long, short = (
        Recording(audio=str(sound(tmp_path / f"{name}.wav", seconds)), target=name, midi=True, csv=False)
        for name, seconds in (("long", 40.0), ("short", 1.0))
    )
    units = transcription.TranscriptionUnits([long, short], 1.0)
    begun = [units.take() for _ in range(5)]
    assert [each.nodes[0].blocks for each in begun if each] == [(0, 16), (16, 32), (32, 41), None]
    assert begun[-1] is None
    for each in (begun[2], begun[0]):
        units.finish(each)  # type: ignore[arg-type]
        assert units.take() is None
    units.finish(begun[1])  # type: ignore[arg-type]
    last = units.take()
    assert last is not None
    assert (last.nodes[0].recording, last.nodes[0].blocks) == (long, None)
    units.finish(last)
    assert units.take() is None
    (tmp_path / "long.wav").unlink()
    left = transcription.TranscriptionUnits([long, short], 1.0).take()
    assert left is not None
    assert left.nodes[0].blocks is None, "what reads it says that it is gone"


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
    assert main([*arguments, "json=true"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["mean"]["onset"]["recall"] == scores["pieces"]["found"]["onset"]["recall"] == 0.5
    assert main(["evaluate", f"reference={tmp_path / 'none.mid'}", f"estimate={tmp_path / 'found.json'}"]) == 2
    assert "none.mid cannot be read" in capsys.readouterr().err


def test_a_batch_that_the_machine_cannot_hold_is_refused_before_anything_is_loaded(tmp_path: Path, chain: Path) -> None:
    given = settings(tmp_path, chain, sound(tmp_path / "a.wav"), **{"transcription.batch_size": 10**9})
    with pytest.raises(ConfigError, match=r"needs about .* of memory, but cpu has .*; lower transcription\.batch_size"):
        check(given)
