"""The artifacts of a run on Prefect's pages, as text and rows; Prefect is not used outside a flow run."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from jukebox_core.tokens.graph import Node
from jukebox_core.tokens.plan import Window
from pipelines.orchestration.artifacts import LINKS, Board, songs_markdown
from pipelines.runs.folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path


IDENTITY = {"model": {"name": "own"}, "sampling": {"n_samples": 1, "stop_level": 0}, "seconds": 1.0, "dtype": "float32"}


def node(level: int, sample: int, start: int, known: int, stop: int) -> Node:
    key = f"{level}/{sample}/{start}"
    return Node(level, sample, Window(start, known, stop), {}, {}, key)


NODES = [node(2, sample, *window) for sample in (1, 0) for window in ((0, 0, 8), (4, 8, 12))] + [node(1, 0, 0, 0, 12)]


def test_the_table_has_a_row_for_each_window_of_a_level() -> None:
    board = Board(NODES, {each.key for each in NODES if each.key != "2/0/0"})
    assert board.rows() == [
        {"level": 2, "tokens": "0 to 8", "samples": "0, 1", "sealed": 1, "reused": 1, "of": 2},
        {"level": 2, "tokens": "4 to 12", "samples": "0, 1", "sealed": 0, "reused": 0, "of": 2},
        {"level": 1, "tokens": "0 to 12", "samples": "0", "sealed": 0, "reused": 0, "of": 1},
    ]


def test_progress_is_the_share_of_tokens_that_is_sealed() -> None:
    board = Board(NODES, {each.key for each in NODES if each.key != "2/0/0"})
    assert board.percent() == pytest.approx(100 * 8 / 36)
    board.window_done([NODES[0]])
    assert board.percent() == pytest.approx(100 * 16 / 36)
    board.window_done(NODES)
    assert board.percent() == 100
    assert Board([], ()).percent() == 100


def test_outside_a_flow_run_no_artifact_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect.artifacts", None)  # importing it would raise
    Board(NODES, ()).window_done(NODES)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "my run")
    (folder.path / "pictures").mkdir(parents=True)
    (folder.path / "pictures" / "level_1_sample_0_spectrogram.png").write_bytes(b"picture")
    audio = [{"path": f"audio/level_{n}/sample_0.wav", "level": n, "sample": 0, "seconds": 1.0} for n in (2, 1)]
    folder.manifest_path.write_text(json.dumps({"schema": 1, "identity": IDENTITY, "audio": audio}))
    return folder


def test_songs_are_linked_to_their_files(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LINKS, raising=False)
    shown = songs_markdown(run)
    assert f"[audio/level_2/sample_0.wav]({(run.path / 'audio/level_2/sample_0.wav').as_uri()})" in shown
    assert "data:image/png;base64,cGljdHVyZQ==" in shown


def test_songs_are_linked_to_where_they_are_served(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LINKS, "http://here:1")
    shown = songs_markdown(run)
    assert "(http://here:1/my%20run/audio/level_1/sample_0.wav)" in shown
    assert "(http://here:1/my%20run/pictures/level_1_sample_0_spectrogram.png)" in shown
    assert "data:" not in shown
