"""The commands and programs of the pages on features and alignment, in order, on shorter music."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import jukebox_core as jukebox
from tests.helpers.pages import ROOT, blocks, commands

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SHORTER = {"generate": "0.3", "compose": "4"}
ADDED = {"features": ["seconds=0.5"]}
ALL_IN_ONE = """
from pipelines.cli.main import main
for command in {commands!r}:
    try:
        status = main(command)
    except SystemExit as end:  # --help
        status = end.code
    assert not status, command
for program in {programs!r}:
    exec(program, {{}})
"""


def run_page(page: str, folder: Path, prefect_api: str) -> str:
    shorter = [
        [re.sub(r"^seconds=.*", f"seconds={SHORTER.get(words[1])}", word) for word in words[1:]]
        + ADDED.get(words[1], [])
        for words in commands(page)
    ]
    programs = [block.text for block in blocks(page) if block.language == "python"]
    code = ALL_IN_ONE.format(commands=shorter, programs=["\n".join(programs)])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_API_URL": prefect_api, "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_features(tmp_path: Path, prefect_api: str) -> None:
    printed = run_page("docs/features.md", tmp_path, prefect_api)
    found = jukebox.load_features(tmp_path / "features")
    assert (len(found), found.arrays) == (8, ["layer4", "layer8", "layer12"])
    assert len(set(found.field("artist"))) > 1
    assert re.search(r"layer8 \d+%", printed)
    assert "(516, 128) (516,) 172.265625" in printed


def test_alignment(tmp_path: Path, prefect_api: str) -> None:
    printed = run_page("docs/alignment.md", tmp_path, prefect_api)
    made = tmp_path / "outputs/sung/align"
    assert {path.suffix for path in made.iterdir()} == {".json", ".lrc", ".srt", ".vtt", ".TextGrid"}
    assert {path.name for path in (tmp_path / "words").iterdir()} == {"sample_0.json", "sample_0.lrc", "sample_0.npy"}
    assert re.search(r"\d\.\d\d +\d\.\d\d river,", printed)
