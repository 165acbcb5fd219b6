"""What is installed from a wheel, away from the repository, has its configuration with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("conf", "jukebox_core", "pipelines", "stages", "pyproject.toml", "README.md", "LICENSE", "NOTICE")


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, made from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    built = run("pip", "wheel", "--no-deps", "--wheel-dir", "dist", ".", cwd=folder)
    if "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("the build backend, hatchling, is neither installed nor to be had here")
    assert built.returncode == 0, built.stderr
    [wheel] = (folder / "dist").glob("*.whl")
    put = run("pip", "install", "--no-deps", "--no-index", "--target", "installed", str(wheel), cwd=folder)
    assert put.returncode == 0, put.stderr
    return folder / "installed"


@pytest.mark.slow
def test_the_installed_program_finds_its_configuration_anywhere(installed: Path, tmp_path: Path) -> None:
    shown = run("pipelines.cli", "generate", "--cfg", "job", "experiment=demo", cwd=tmp_path, PYTHONPATH=str(installed))
    assert shown.returncode == 0, shown.stderr
    assert "artist: piano and voice" in shown.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_wheel_holds_every_configuration_and_data_file(installed: Path) -> None:
    package = installed / "jukebox_core"
    for source, target in ((ROOT / "conf", package / "conf"), (ROOT / "jukebox_core" / "data", package / "data")):
        files = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
        assert files == {path.relative_to(target) for path in target.rglob("*") if path.is_file()}
        assert files
