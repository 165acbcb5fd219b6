"""A whole run with text that looks like a reference, in an environment with secrets: the text stays, no secret does."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.helpers.workspace import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SECRET = "hunter2-of-the-environment"
WORDS = "pay ${price} to ${oc.env:AWS_SECRET_ACCESS_KEY}, ???"


def run(folder: Path, *arguments: str) -> str:
    """Runs the program to a successful end; returns all that it printed."""
    secrets = dict.fromkeys(("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_PASSWORD"), SECRET)
    done = subprocess.run(
        [COMMAND, *arguments], cwd=folder, env=os.environ | secrets, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_text_survives_its_run_and_no_secret_is_kept(tmp_path: Path) -> None:
    lyrics = "song.lyrics=" + WORDS.replace("${", "\\${")
    printed = run(tmp_path, "generate", "seconds=2", "sampling=top_only", "run.name=one", lyrics)
    folder = tmp_path / "outputs" / "one"
    assert yaml.safe_load((folder / "config.yaml").read_text("utf-8"))["song"]["lyrics"] == WORDS
    assert json.loads((folder / "manifest.json").read_text("utf-8"))["identity"]["song"]["lyrics"] == WORDS
    assert "one is finished" in run(tmp_path, "runs", "resume", "one")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"config.yaml", "manifest.json", "run.log", "report.html"} <= {file.name for file in files}
    leaks = [str(file) for file in files if SECRET.encode() in file.read_bytes()]
    assert leaks == []
    assert SECRET not in printed
