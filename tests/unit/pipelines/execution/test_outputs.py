"""Outputs of a run: each is looked at, one that is gone or damaged is made again, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from jukebox_core.base.hashing import digest_file
from pipelines.execution.outputs import RunOutputs
from pipelines.runs.folder import RunFolder, open_run
from pipelines.runs.output_files import are_complete
from pipelines.settings.common import OutputSettings, RunSettings
from pipelines.settings.compose import dump
from tests.helpers.fake_runs import composed, made_up_take

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CODEC = "c" * 64
OUTPUT = OutputSettings()
SETTINGS = composed(("seconds=1",))
TAKES = [made_up_take(SETTINGS, f"song {sample}", bottom=1) for sample in range(2)]
FILES = sorted(
    [f"audio/level_{level}/sample_{sample}.wav" for level in (1, 2) for sample in (0, 1)]
    + [f"codes/sample_{sample}.npz" for sample in (0, 1)]
    + [
        f"pictures/level_{level}_sample_{sample}_{kind}.png"
        for level in (1, 2)
        for sample in (0, 1)
        for kind in ("waveform", "spectrogram")
    ]
    + ["report.html"]
)


@dataclass
class Made:
    """The digest and the level of a sound."""

    sha256: str
    seconds: float = 1.0
    peak: float = 0.5
    rms: float = 0.1


@dataclass
class FakeStages:
    """Stages that write a line in each file, and note which they wrote."""

    folder: Path
    made: list[str] = field(default_factory=list)

    def _write(self, path: Path, end: bytes = b"") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.relative_to(self.folder).as_posix()
        path.write_bytes(name.encode() + end)
        self.made.append(name)
        return path

    def decode_track(
        self, _codec: object, _level: int, _track: object, _store: str, path: Path, tags: dict[str, str]
    ) -> Made:
        assert tags["title"]
        return Made(digest_file(self._write(path)))

    def write_song_codes(self, _take: object, _store: str, _about: object, path: Path) -> None:
        self._write(path)

    def draw_sound(self, _audio: Path, _rate: int, *pictures: Path) -> None:
        for path in pictures:
            self._write(path, b"IEND\xaeB`\x82")

    def write_report(self, folder: Path, _report: object) -> Path:
        return self._write(folder / "report.html", b"</html>\n")


class Watch:
    timings = ()

    def time(self, _: str) -> nullcontext[None]:
        return nullcontext()


@dataclass
class Codec:
    family: str = "jukebox"

    class config:  # noqa: N801
        name, sample_rate, hops = "mini", 44100, (8, 32, 128)

    class weights:  # noqa: N801
        identity = CODEC


def write(run: RunFolder) -> list[str]:
    """Writes the outputs; returns the files that were made."""
    stages = FakeStages(run.path)
    heading = {"title": "x", "model": "mini", "trained": True, "licence": "", "settings": {}}
    codec: Any = Codec()
    outputs = RunOutputs(run=run, codec=codec, store="", output=OUTPUT, heading=heading, songs=({}, {}))
    outputs.write(TAKES, stages, Watch())  # type: ignore[arg-type]
    return sorted(stages.made)


def complete(run: RunFolder, output: OutputSettings = OUTPUT) -> bool:
    return are_complete(run.path, run.manifest(), TAKES, CODEC, output)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outputs")
    settings = replace(SETTINGS, storage=replace(SETTINGS.storage, root=str(root)), run=RunSettings(name="run"))
    folder = open_run(settings, dump(settings))
    assert write(folder) == FILES
    assert complete(folder)
    return folder.path


@pytest.fixture
def run(template: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(template, tmp_path / "run"))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    os.utime(path, (time.time() + 100, time.time() + 100))  # newer than everything


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [os.remove, cut, flip, empty])
@pytest.mark.parametrize(
    "file",
    ["audio/level_1/sample_0.wav", "codes/sample_1.npz", "pictures/level_2_sample_0_waveform.png", "report.html"],
)
def test_an_output_that_is_not_whole_is_made_again(run: RunFolder, file: str, damage: Callable[[Path], None]) -> None:
    damage(run.path / file)
    assert not complete(run)
    made = write(run)
    assert file in made
    always = [name for name in FILES if name.startswith("codes") or name == "report.html"]
    pictures = [name for name in FILES if file.startswith("audio") and name.startswith("pictures")]
    assert not set(made) - {file, *always, *pictures, *_other_picture(file)}
    assert complete(run)


def _other_picture(file: str) -> list[str]:
    """The picture that is drawn with this one."""
    if not file.startswith("pictures"):
        return []
    return [file.replace("waveform", "spectrogram"), file.replace("spectrogram", "waveform")]


def test_without_a_report_neither_it_nor_pictures_are_missed(run: RunFolder) -> None:
    (run.path / "report.html").unlink()
    (run.path / "pictures" / "level_1_sample_0_waveform.png").unlink()
    assert complete(run, OutputSettings(report=False))


def test_a_kill_while_sounds_are_decoded_costs_one_of_them(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.update(audio=[], codes=[])
    real, left = FakeStages.decode_track, 3

    def dies(*arguments: Any) -> Made:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        return real(*arguments)

    monkeypatch.setattr(FakeStages, "decode_track", dies)
    with pytest.raises(KeyboardInterrupt):
        write(run)
    monkeypatch.setattr(FakeStages, "decode_track", real)
    assert len([name for name in write(run) if name.startswith("audio")]) == 1


def test_a_kill_while_pictures_are_drawn_costs_those_of_one_sound(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.update(pictures=[])
    real, left = FakeStages.draw_sound, 3

    def dies(*arguments: Any) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        real(*arguments)

    monkeypatch.setattr(FakeStages, "draw_sound", dies)
    with pytest.raises(KeyboardInterrupt):
        write(run)
    monkeypatch.setattr(FakeStages, "draw_sound", real)
    assert len([name for name in write(run) if name.startswith("pictures")]) == 2


def test_a_run_of_an_earlier_version_is_complete_if_its_files_are_whole(run: RunFolder) -> None:
    earlier = {k: v for k, v in run.manifest().items() if k not in ("pictures", "report", "digest")}
    run.manifest_path.write_text(json.dumps(earlier))
    assert complete(run)
    for name in ("report.html", "pictures/level_1_sample_0_waveform.png"):
        whole = (run.path / name).read_bytes()
        cut(run.path / name)
        assert not complete(run)
        (run.path / name).write_bytes(whole)
    assert complete(run)


def test_files_of_other_tokens_do_not_count(run: RunFolder) -> None:
    other = [made_up_take(SETTINGS, "another song", bottom=1), TAKES[1]]
    assert not are_complete(run.path, run.manifest(), other, CODEC, OUTPUT)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
@pytest.mark.parametrize("file", ["report.html", "codes/sample_0.npz", "audio/level_1/sample_0.wav"])
def test_something_else_in_the_place_of_an_output_is_set_aside(run: RunFolder, file: str, kind: str) -> None:
    path = run.path / file
    path.unlink()
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    assert not complete(run)
    write(run)
    assert complete(run)
    assert path.with_name(f"{path.name}.damaged").exists()


@pytest.mark.parametrize("folder", ["audio", "audio/level_1", "codes", "pictures"])
def test_a_file_in_the_place_of_a_folder_is_set_aside(run: RunFolder, folder: str) -> None:
    shutil.rmtree(run.path / folder)
    (run.path / folder).write_text("a file")
    write(run)
    assert complete(run)
    assert (run.path / f"{folder}.damaged").read_text() == "a file"
