"""An installation from a wheel, away from the repository, includes configuration, data and type information."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.helpers.wheels import ROOT, copy_sources, install, virtual_environment


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the program, installed from a copy of the sources, and this one's packages besides."""
    folder = tmp_path_factory.mktemp("wheel")
    python = virtual_environment(folder / "venv", seen=Path(sysconfig.get_path("purelib")))
    install(python, str(copy_sources(folder / "sources")))
    return folder / "venv"


@pytest.mark.slow
def test_the_installed_program_finds_its_configuration_anywhere(installed: Path, tmp_path: Path) -> None:
    command = [installed / "bin/jukebox", "generate", "--cfg", "job", "experiment=demo"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "artist: piano and voice" in shown.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("package", ["jukebox_core", "stages", "pipelines"])
def test_type_checkers_use_the_annotations_of_an_installed_package(installed: Path, package: str) -> None:
    [marker] = installed.glob(f"lib/python*/site-packages/{package}/py.typed")
    assert marker.read_bytes() == b""


@pytest.mark.slow
def test_the_wheel_holds_every_configuration_and_data_file(installed: Path) -> None:
    [package] = installed.glob("lib/python*/site-packages/jukebox_core")
    for source, target in ((ROOT / "conf", package / "conf"), (ROOT / "jukebox_core" / "data", package / "data")):
        files = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
        assert files == {path.relative_to(target) for path in target.rglob("*") if path.is_file()}
        assert files
