"""The commands and the program of docs/transcribe.md are run, with a small trained model."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from jukebox_core.notes.notes import Notes, read_notes
from tests.helpers.models.mt3 import bundles, load, notes_of, write_preset
from tests.helpers.pages import ROOT, blocks, commands

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/transcribe.md"
ALL_IN_ONE = """
from pipelines.cli.main import main
for command in {commands!r}:
    assert main(command) == 0, command
"""


@pytest.fixture
def folder(golden_mt3: Path, tmp_path: Path) -> Path:
    """A folder with a recording, a folder of recordings, the right notes, and a model that knows the recording."""
    chain = next(each for each in bundles(golden_mt3, "chain.json") if (each / "mt3.pth").is_file())
    (tmp_path / "recordings").mkdir()
    shutil.copy(chain / "song.wav", tmp_path / "song.wav")
    shutil.copy(chain / "other.wav", tmp_path / "recordings" / "other.wav")
    Notes.of(notes_of(load(chain / "chain.json")["source_notes"])).to_midi(tmp_path / "right.mid")
    write_preset(tmp_path / "chain.yaml", chain)
    return tmp_path


def run(folder: Path, program: str, prefect: str) -> str:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "JUKEBOX_"))}
    own = {"HOME": str(folder), "PREFECT_API_URL": prefect, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=keep | own | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_commands_and_the_program_work(folder: Path, prefect_api: str) -> None:
    model = [f"model={folder}/chain.yaml"]
    given = [[*command[1:], *(model if command[1] == "transcribe" else [])] for command in commands(PAGE)]
    assert {command[0] for command in given} == {"transcribe", "evaluate"}
    printed = run(folder, ALL_IN_ONE.format(commands=given), prefect_api)
    out = folder / "outputs" / "transcripts"
    assert "multi instrument  1.000      1.000   1.000" in printed
    watched = {path.suffix for path in (folder / "watched").iterdir()}
    assert watched == {".mid", ".json", ".jsonl", ".html", ".log"}
    assert re.search(r"^tempo, beats a minute +\S", printed, re.MULTILINE)
    assert {path.name for path in out.iterdir()} == {
        "song.mid", "song.csv", "song.json", "other.mid", "other.csv", "other.json", "transcribe.log",
    }  # fmt: skip
    assert read_notes(out / "song.mid") != Notes()
    [program] = [block.text for block in blocks(PAGE) if block.language == "python"]
    run(folder, program.replace('"mt3"', '"chain.yaml"'), prefect_api)
    assert len(read_notes(folder / "song.json")) == len(read_notes(out / "song.json"))
