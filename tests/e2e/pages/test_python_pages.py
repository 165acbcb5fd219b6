"""The Python of the pages for users of other programs is run, on a small model; so is the notebook."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import jukebox_core as jukebox
from tests.helpers.models.small_model import write_small_model
from tests.helpers.pages import blocks
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SHRINK = 0.01
KNOWN = {'"1b_lyrics"': '"./small.yaml"', '"The Beatles"': '"music box"', '"Rock"': '"waltz"'}
PAGES = ("docs/from_transformers.md", "docs/from_jukebox_infer.md")


def shrunk(code: str) -> str:
    for name, known in KNOWN.items():
        code = code.replace(name, known)
    return re.sub(r"seconds=(\d+)", lambda found: f"seconds={int(found[1]) * SHRINK:.2f}", code)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_our_calls_do_what_the_page_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_small_model(tmp_path / "small.yaml")
    jukebox.write_audio("clip.wav", 0.3 * np.sin(np.arange(22050, dtype=np.float32) / 9), 22050)
    names: dict[str, object] = {}
    listed = [block.text for block in blocks(page) if block.language == "python"]
    assert len(listed) >= 3
    for text in listed:
        exec(shrunk(text), names)
    music = names["music"]
    assert isinstance(music, jukebox.Music)
    assert music.finished
    assert music.seconds == pytest.approx(20 * SHRINK, abs=0.01)
    assert [path for path in tmp_path.glob("*.wav") if path.name != "clip.wav"]


@pytest.mark.parametrize("page", PAGES)
def test_every_call_of_the_other_program_has_one_of_ours_beside_it(page: str) -> None:
    languages = [block.language for block in blocks(page) if block.language in ("py", "python")]
    assert languages.count("py") >= 3
    assert all(following == "python" for each, following in pairwise(languages) if each == "py")


@pytest.mark.slow
def test_the_notebook_runs_and_shows_players(tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "docs" / "first_steps.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    shown = [
        output["data"].get("text/html", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "data" in output
    ]
    assert sum("<audio" in each for each in shown) >= 3
    assert any("<progress" in each for each in shown)
    assert list(tmp_path.glob("*.flac"))


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(ROOT / "docs" / "first_steps.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
