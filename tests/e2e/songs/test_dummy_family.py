"""Another package's family of models: it generates, is killed, resumes, is listed, served and refused bad input.

Nothing outside `tests.helpers.models.dummy_family` knows of it: it is found by its entry point. Its windows are grids
that are refined in passes, and their resumable state is opaque to the store.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from tests.helpers.paths import ROOT
from tests.helpers.servers.prefect_site import Site, serving, wait

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SONG = ("seconds=1.2", "sampling.n_samples=2", "sampling.seed=3", "song.mood=bright")


@dataclass(frozen=True)
class Workspace:
    folder: Path
    env: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pipelines.cli.main", *arguments]

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.env | env,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def generate(self, *arguments: str) -> str:
        done = self.run("generate", "model=dummy.yaml", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def workspace(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("dummy")
    installed = folder / "site" / "dummy_family-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: dummy-family\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[jukebox_core.families]\ndummy = tests.helpers.models.dummy_family\n")
    (folder / "moods.txt").write_text("calm bright")
    model = {
        "name": "dummy",
        "family": "dummy",
        "network": {"codebooks": 4},
        "files": {
            "weight_sources": ["seed:7"],
            "vocabulary_sources": [folder.as_uri()],
            "weights": {role: {"path": f"{role}.safetensors"} for role in ("codec", "model")},
            "vocabularies": {"moods": {"path": "moods.txt"}},
            "licence": "made up",
        },
        "trained": False,
    }
    (folder / "dummy.yaml").write_text(yaml.safe_dump(model))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "JUKEBOX_"))}
    path = os.pathsep.join((str(folder / "site"), str(ROOT)))
    own = {"PYTHONPATH": path, "PREFECT_API_URL": prefect_api, "HOME": str(folder), "NO_PROXY": "127.0.0.1"}
    return Workspace(folder, kept | own | {"JUKEBOX_WEIGHTS": str(folder / "weights")})


def codes(run: Path) -> list[np.ndarray]:
    return [np.load(path)["level_0"] for path in sorted((run / "codes").glob("*.npz"))]


def test_it_generates_grids_and_the_same_command_finds_them(workspace: Workspace) -> None:
    workspace.generate(*SONG, "run.name=first")
    run = workspace.folder / "outputs" / "first"
    assert [grid.shape for grid in codes(run)] == [(4, 120), (4, 120)]
    assert not np.array_equal(*codes(run))
    assert sorted(path.name for path in (run / "audio/level_0").iterdir()) == ["sample_0.wav", "sample_1.wav"]
    assert "bright" in (run / "report.html").read_text()
    assert "nothing is left to do" in workspace.generate(*SONG, "run.name=first")


def test_a_killed_run_is_listed_and_resumes_from_its_opaque_state(workspace: Workspace) -> None:
    arguments = (*SONG, "run.name=killed", "storage.tokens=outputs/.killed", "storage.flush_tokens=1")
    slow = workspace.env | {"DUMMY_STEP_SECONDS": "0.4"}
    with (workspace.folder / "killed.log").open("w") as log:
        process = subprocess.Popen(
            workspace.command("generate", "model=dummy.yaml", *arguments),
            cwd=workspace.folder,
            env=slow,
            stdout=log,
            stderr=log,
        )
    wait("a partial window", lambda: list((workspace.folder / "outputs/.killed").rglob("*.part.safetensors")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    listed = workspace.run("runs", "list").stdout
    [line] = [line for line in listed.splitlines() if line.startswith("killed")]
    assert line.split()[1:4] == ["dummy", "killed", "1.2"]
    assert "resumed at a saved state of an interrupted window" in workspace.generate(*arguments)
    for grid, expected in zip(
        codes(workspace.folder / "outputs/killed"), codes(workspace.folder / "outputs/first"), strict=True
    ):
        np.testing.assert_array_equal(grid, expected)


def test_it_continues_shows_and_encodes(workspace: Workspace) -> None:
    done = workspace.run("continue", "first", "seconds=1.6", "run.name=longer")
    assert done.returncode == 0, done.stderr
    for grid, begun in zip(
        codes(workspace.folder / "outputs/longer"), codes(workspace.folder / "outputs/first"), strict=True
    ):
        assert grid.shape == (4, 160)
        np.testing.assert_array_equal(grid[:, :120], begun)
    shown = workspace.run("runs", "show", "longer").stdout
    assert "song.mood" in shown
    assert "first" in shown
    shutil.copy(workspace.folder / "outputs/first/audio/level_0/sample_0.wav", workspace.folder / "clip.wav")
    done = workspace.run("encode", "model=dummy.yaml", "audio=[clip.wav]", "levels=[0]")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["song.mood=grim"], "song.mood is 'grim'; choose one of calm, bright"),
        (["song.artist=x"], "song.artist is not a setting"),
        (["sampling.level_0.top_k=3"], "sampling.level_0"),
        (["model.network.codebooks=many"], "model.network.codebooks is 'many'; it must be a whole number"),
        (["seconds=0.001"], "shorter than one token"),
    ],
)
def test_bad_input_is_refused(workspace: Workspace, arguments: Sequence[str], message: str) -> None:
    done = workspace.run("generate", "model=dummy.yaml", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_python_gives_the_same_grids(workspace: Workspace) -> None:
    program = (
        "import numpy as np, jukebox_core as jukebox\nfrom tests.helpers.models.dummy_family import Mood\n"
        "music = jukebox.load_model('dummy.yaml').generate(Mood(mood='bright'), seconds=1.2, n_samples=2, seed=3)\n"
        "np.save('python.npy', music.codes[0])\nassert music.audio.shape == (2, 9600)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=workspace.folder,
        env=workspace.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = np.stack(codes(workspace.folder / "outputs/first"))
    np.testing.assert_array_equal(np.load(workspace.folder / "python.npy"), expected)


@pytest.mark.endurance
def test_it_is_served(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, prefect_api: str) -> None:
    for name, value in workspace.env.items():
        monkeypatch.setenv(name, value)
    site = Site(prefect_api, workspace.folder)
    with serving(site, "--name", "grids", "model=dummy.yaml", "seconds=0.5"):
        run = site.start(["model=dummy.yaml", "seconds=0.5", "song.mood=calm", "run.name=served"], name="grids")
        assert site.ended(run)["type"] == "COMPLETED"
    assert [grid.shape for grid in codes(workspace.folder / "outputs/served")] == [(4, 50)]
    manifest = json.loads((workspace.folder / "outputs/served/manifest.json").read_text())
    assert manifest["status"] == "finished"
