"""``hardware.engine=onnx`` in commands: the same store, keys and tokens; graphs that are there are used.

The graphs are those that other slow tests export as well; nine of them for songs, which takes minutes.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.audio.files import write_audio
from jukebox_core.composer.tune import tune
from jukebox_core.export.config import ExportConfig
from jukebox_core.export.record import graph_key
from jukebox_core.family import open_exporting
from jukebox_core.models.presets import load_preset
from jukebox_core.notes.notes import read_notes
from pipelines.execution.transcription import check
from pipelines.execution.variation import run_settings
from pipelines.flows.transcribe import transcribe_files
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.settings.compose import GENERATE, TRANSCRIBE, VAMP, compose
from tests.helpers.exports import files
from tests.helpers.plain_flows import make_plainly

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pipelines.runs.folder import RunFolder
    from tests.helpers.exports import Exports

pytestmark = [pytest.mark.slow, pytest.mark.endurance, pytest.mark.timeout(1800)]

ENGINES = ("eager", "onnx")
PRIOR = ("condition_2", "prefill_2", "step_2")
CODEC = tuple(f"{part}_{level}" for level in range(3) for part in ("encoder", "decoder"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with caches of its own, in which nothing can be exported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def install(exports: Exports, folder: Path, monkeypatch: pytest.MonkeyPatch, model: str, *names: str) -> None:
    """Puts a model's graphs where the engine looks for them."""
    preset, made = load_preset(model), exports.folder(model, *names)
    for name in names:
        roles = open_exporting(preset.family).graphs(preset.config)[name]
        weights = {role: identity for role, (_, identity) in files(preset, *roles).items()}
        key = graph_key(preset.family, preset.config, name, weights, ExportConfig())
        target = folder / "cache/jukebox/graphs" / key[:32]
        target.mkdir(parents=True)
        for suffix in ("onnx", "json"):
            shutil.copy(made / f"{name}.{suffix}", target)

    def unexpected(*_: object) -> None:
        raise AssertionError("the graph is there")

    monkeypatch.setattr("jukebox_core.export.export._export", unexpected)


def codes_of(run: RunFolder) -> dict[str, NDArray[np.integer]]:
    with np.load(run.path / "codes/sample_0.npz") as opened:
        return {name: opened[name] for name in opened.files if name.startswith("level_")}


def check_equal(runs: list[RunFolder], levels: set[str]) -> None:
    ours, found = map(codes_of, runs)
    assert ours.keys() == found.keys() == levels
    for name, each in ours.items():
        np.testing.assert_array_equal(each, found[name])
    assert runs[0].manifest()["takes"] == runs[1].manifest()["takes"]


def test_variations(exports: Exports, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(exports, folder, monkeypatch, "mini_vamp", "encoder", "decoder", "coarse", "c2f")
    runs = []
    for engine in ENGINES:
        overrides = ["audio=['builtin:tune']", "seconds=2", f"hardware.engine={engine}", f"storage.tokens={engine}"]
        settings = compose(VAMP, ["model=mini_vamp", *overrides, f"run.name={engine}"])
        runs.append(make_plainly(run_settings(settings)))
    check_equal(runs, {"level_0", "level_1"})


def test_songs(exports: Exports, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(exports, folder, monkeypatch, "mini", *PRIOR, *CODEC)
    runs = []
    for engine in ENGINES:
        overrides = ["seconds=0.5", f"hardware.engine={engine}", f"storage.tokens={engine}", f"run.name={engine}"]
        settings = compose(GENERATE, ["model=mini", "sampling=top_only", "output.report=false", *overrides])
        runs.append(make_plainly(settings))
    check_equal(runs, {"level_2"})


def test_transcriptions(exports: Exports, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(exports, folder, monkeypatch, "mini_mt3", "encoder", "start", "step")
    write_audio(folder / "tune.wav", tune(4.0, 16_000), 16_000)
    found = []
    for engine in ENGINES:
        overrides = [f"hardware.engine={engine}", f"folder={folder / engine}", f"storage.tokens={engine}"]
        settings = compose(TRANSCRIBE, ["model=mini_mt3", "audio=[tune.wav]", "hardware.device=cpu", *overrides])
        transcribe_files(settings, check(settings), PLAIN)
        [path] = (folder / engine).rglob("*.mid")
        found.append(read_notes(path).notes)
    assert found[0] == found[1]
    assert len(found[0]) > 5
