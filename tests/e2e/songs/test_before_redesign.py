"""Runs and a store made before the redesign are found, listed, resumed and continued, bit for bit."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from tests.helpers.paths import TESTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FIXTURE = TESTS / "fixtures" / "before_redesign"
KIND, FINISHED, LONGER = "5b", "golden_5b-09bae8f1", "golden_5b-09bae8f1-continue-cc74cc41"
WEIGHTS, VOCABULARIES = "weights/own/73156a38/5b", "weights/own/894c249f/ids"  # the paths of that version
HARDWARE = (
    "weights.folder=weights", "weights.prepared=false", "hardware.device=cpu", "hardware.threads=1",
    "hardware.dtype=float32", "hardware.engine=eager", "runner.preview_seconds=null",
)  # fmt: skip
EVERY = 50  # of the samples of a file, that many apart, are in expected.json
SAME = (
    "generate", "model=model.yaml", "seconds=0.2", "prompt=tune", "prompt.seconds=0.05", "sampling.n_samples=2",
    "sampling.seed=5", "song.artist='Alan Jackson'", "song.genre=Country", "output.report=false", "output=flac",
)  # fmt: skip


@dataclass(frozen=True)
class Folder:
    path: Path
    prefect: str

    def jukebox(self, *arguments: str) -> str:
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "JUKEBOX_"))}
        own = {"HOME": str(self.path), "PREFECT_API_URL": self.prefect, "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [Path(sys.executable).with_name("jukebox"), *arguments], cwd=self.path, env=keep | own,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    path = tmp_path_factory.mktemp("before")
    shutil.copytree(FIXTURE / "runs", path / "outputs")
    (path / "outputs" / "store").rename(path / "outputs" / ".store")
    shutil.copy(FIXTURE / "model.yaml", path)
    shutil.copytree(FIXTURE / "vocabularies", path / VOCABULARIES)
    (path / WEIGHTS).mkdir(parents=True)
    # Always the packed weights: those of --golden may have other tables.
    for packed in (TESTS / "golden/zoo/models" / KIND).glob("*.pth.tar.xz"):
        (path / WEIGHTS / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
    return Folder(path, prefect_api)


def digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def check(run: Path, name: str) -> None:
    """The run has the spans, codes and audio that the earlier version gave it."""
    expected = json.loads((FIXTURE / "expected.json").read_text())[name]
    assert json.loads((run / "manifest.json").read_text())["takes"] == expected["takes"]
    for path, known in expected["audio"].items():
        heard = soundfile.read(run / path, dtype="int16")[0]
        if isinstance(known, str):  # the digest of a file that was kept
            assert digest(heard) == known, path
        else:  # decoded now: the last bit depends on the CPU
            np.testing.assert_allclose(heard[::EVERY], known, rtol=0, atol=2, err_msg=path)
    for file, sha256 in expected["codes"].items():
        path, _, level = file.partition(":")
        with np.load(run / "codes" / path) as codes:
            assert digest(codes[level].astype("<i8")) == sha256, file


def test_they_are_listed(folder: Folder) -> None:
    table = folder.jukebox("runs", "list")
    lines = {line.split()[0]: line for line in table.splitlines() if line.strip()}
    assert "finished" in lines[FINISHED]
    assert FINISHED in lines[LONGER].split()[1:]
    assert "stopped" in lines["interrupted"] or "killed" in lines["interrupted"]


def test_the_same_command_finds_the_run(folder: Folder) -> None:
    said = folder.jukebox(*SAME, *HARDWARE)
    assert f"run {FINISHED} is finished; nothing is left to do" in said
    check(folder.path / "outputs" / FINISHED, "finished")


def test_an_interrupted_run_is_resumed_from_its_partial_windows(folder: Folder) -> None:
    said = folder.jukebox("runs", "resume", "interrupted")
    assert "tokens of an interrupted window" in said
    check(folder.path / "outputs" / "interrupted", "interrupted")


def test_a_run_is_continued(folder: Folder) -> None:
    folder.jukebox("continue", FINISHED, "seconds=0.28", "run.name=longer", *HARDWARE)
    check(folder.path / "outputs" / "longer", "continued")
