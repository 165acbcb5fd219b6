"""`jukebox export` and `jukebox models export format=onnx` skip the graphs that are finished, and print their paths."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from pipelines import commands
from pipelines.cli import models
from pipelines.execution import export as execution
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.settings.compose import EXPORT, compose

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.settings.export import ExportSettings
    from tests.helpers.exports import Exports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def finished(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a finished graph of mini_vamp; nothing can be exported."""
    shutil.copytree(exports.folder("mini_vamp", "decoder"), tmp_path / "set/mini_vamp")

    def unexpected(*_: object) -> None:
        raise AssertionError("the graph is there")

    monkeypatch.setattr("jukebox_core.export.export._export", unexpected)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "set"


def test_a_finished_graph_is_skipped(finished: Path) -> None:
    folder = finished / "mini_vamp"
    settings = compose(EXPORT, ["model=mini_vamp", "graphs=[decoder]", f"folder={folder}"])
    execution.check(settings)
    assert execution.export(settings, PLAIN) == [str(folder / "decoder.onnx")]
    other = compose(EXPORT, ["model=mini_vamp", "graphs=[decoder]", f"folder={folder}", "opset=20"])
    with pytest.raises(AssertionError, match="the graph is there"):
        execution.export(other, PLAIN)


def test_a_set_of_models(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[ExportSettings] = []
    monkeypatch.setattr(commands, "export", called.append)
    models.run(["export", str(finished), "mini_vamp", "mini", "format=onnx", "dtype=int8"])
    assert [(each.model.name, each.folder, each.dtype) for each in called] == [
        (name, str(finished / name), "int8") for name in ("mini_vamp", "mini")
    ]
