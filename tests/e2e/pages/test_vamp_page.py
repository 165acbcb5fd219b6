"""The commands and the chain of docs/vamp.md are run with small models, and a page of variations in a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from jukebox_core.notes.notes import read_notes
from jukebox_core.store.store import TokenStore
from pipelines.runs.folder import runs_in
from tests.helpers.browser import browse, needs_browser, probed, recorded
from tests.helpers.models import vampnet as gold
from tests.helpers.pages import ROOT, blocks, commands

if TYPE_CHECKING:
    from pathlib import Path

PAGE, RATE = "docs/vamp.md", 44_100
ALL_IN_ONE = """
from pipelines.cli.main import main
for command in {commands!r}:
    assert main(command) == 0, command
"""
PROBE = """
window.addEventListener("load", async () => {
  const audios = [...document.querySelectorAll("audio")];
  await Promise.all(audios.map(a => a.readyState >= 1 ? 0 : new Promise(done => {
    a.addEventListener("loadedmetadata", done); a.addEventListener("error", done); setTimeout(done, 5000); })));
  record({
    seconds: audios.map(a => a.duration),
    images: [...document.images].map(i => i.naturalWidth),
    headings: [...document.querySelectorAll("article h3")].map(h => h.firstChild.textContent.trim()),
    captions: [...document.querySelectorAll("figcaption")].map(c => c.textContent),
    notes: [...document.querySelectorAll(".notes li")].map(n => n.textContent),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  });
});
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(golden_vampnet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model whose terms are upstream's, recordings, and a drawn mask."""
    made = tmp_path_factory.mktemp("vamp")
    gold.write_preset(golden_vampnet, made, licence="CC BY-NC-SA 4.0")
    (made / "recordings").mkdir()
    for name, seconds in (("song.wav", 0.45), ("recordings/other.wav", 0.3)):
        at = np.arange(int(seconds * RATE)) / RATE
        soundfile.write(made / name, 0.3 * np.sin(2 * np.pi * 330 * at) * np.exp(-4 * (at % 0.2)), RATE)
    drawn = np.zeros((14, 100), np.uint8)
    drawn[:, 40:80] = 255
    Image.fromarray(drawn).save(made / "mask.png")
    return made


def run(folder: Path, program: str, prefect: str) -> str:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "JUKEBOX_"))}
    own = {"HOME": str(folder), "PREFECT_API_URL": prefect, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=keep | own | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def ran(folder: Path, prefect_api: str) -> Path:
    model, cheap = ["model=golden.yaml"], ["runner.preview_seconds=null", "hardware.device=cpu"]
    own = {"generate": ["sampling.stop_level=2"], "vamp": model, "inpaint": model}
    given = [[*command[1:], *cheap, *own[command[1]]] for command in commands(PAGE)]
    assert {command[0] for command in given} == {"vamp", "inpaint", "generate"}
    given = [[*c, *(["output.report=false"] if number != 1 else [])] for number, c in enumerate(given)]
    run(folder, ALL_IN_ONE.format(commands=given), prefect_api)
    return folder


@pytest.mark.timeout(900)
def test_the_commands_work(ran: Path) -> None:
    runs = runs_in(str(ran / "outputs"))
    assert len(runs) == len(commands(PAGE))
    assert {each.manifest()["status"] for each in runs} == {"finished"}
    [several] = [each for each in runs if len(each.takes()) == 4]
    assert several.manifest()["identity"]["model"]["name"] == "golden"


@needs_browser
def test_the_page_is_drawn_and_says_the_terms(ran: Path, tmp_path: Path) -> None:
    [several] = [each for each in runs_in(str(ran / "outputs")) if len(each.takes()) == 4]
    moved = shutil.copytree(several.path, tmp_path / "moved #1")
    found: Any = recorded(browse(probed(moved / "report.html", PROBE), tmp_path / "profile", "--dump-dom"))
    assert len(found["seconds"]) == 4 * 3, "before, after, and the coarse codebooks"
    assert all(0.25 < seconds < 0.5 for seconds in found["seconds"])
    assert all(width > 0 for width in found["images"])
    assert found["headings"][:3] == ["Before", "All codebooks", "Coarse codebooks"]
    assert len(found["captions"]) == 4 * 2
    assert any("share them under the same terms" in note for note in found["notes"])
    assert found["overflow"] == 0


@pytest.mark.endurance
@pytest.mark.timeout(900)
def test_songs_are_made_varied_and_transcribed_in_one_flow(folder: Path, prefect_api: str) -> None:
    _, program = [block.text for block in blocks(PAGE) if block.language == "python"]
    assert 'vamp=["model=vampnet"]' in program
    program = program.replace('"model=vampnet"', '"model=golden.yaml", "output.report=false"')
    program = program.replace('"seconds=1"', '"seconds=1", "output.report=false"')
    before = {each.name for each in runs_in(str(folder / "outputs"))}
    run(folder, program, prefect_api)
    added = [each for each in runs_in(str(folder / "outputs")) if each.name not in before]
    [varied] = [each for each in added if each.manifest()["identity"]["model"]["name"] == "golden"]
    assert len(added) == 2
    [notes] = (folder / "outputs/transcripts").rglob("*.json")
    assert notes.parent.name == varied.name
    first, codes = read_notes(notes), (varied.path / "codes/sample_0.npz").read_bytes()
    assert run(folder, program, prefect_api).count("is finished; nothing is left to do") == 2, "all is found again"
    TokenStore(str(folder / "outputs/.store")).remove(varied.takes()[0][0].spans[-1].key)
    shutil.rmtree(notes.parent)
    shown = run(folder, program, prefect_api)
    assert shown.count("is finished; nothing is left to do") == 1, "the song is; the variation lacks a window"
    assert (varied.path / "codes/sample_0.npz").read_bytes() == codes
    assert read_notes(notes) == first
