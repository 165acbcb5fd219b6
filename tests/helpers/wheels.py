"""Installing packages from within tests, by pip or uv, whichever the environment has."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = ("conf", "jukebox_core", "pipelines", "stages", "pyproject.toml", "README.md", "LICENSE", "NOTICE")


def copy_sources(target: Path) -> Path:
    """Copies the sources of a wheel."""
    target.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, target / name)
    return target


def installer(python: Path | str = sys.executable) -> list[str]:
    """The command, up to its arguments, that installs for the interpreter `python`; skips where there is none."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "--python", str(python), "install", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", str(python)]
    pytest.skip("neither pip nor uv is installed")


def virtual_environment(folder: Path, *, seen: Path | None = None) -> Path:
    """Makes an empty environment, from which the packages in the folder `seen` can be imported; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    if seen is not None:
        (packages / "seen.pth").write_text(f"{seen}\n")
    return folder / "bin" / "python"


def install(python: Path, *what: str) -> None:
    """Installs without dependencies; skips where the build requirements are not available."""
    done = subprocess.run([*installer(python), "--no-deps", *what], capture_output=True, text=True, check=False)
    if done.returncode and any(sign in done.stderr.lower() for sign in ("no matching distribution", "connect", "dns")):
        pytest.skip(f"no package index to install {' '.join(what)} from")
    assert done.returncode == 0, done.stderr
