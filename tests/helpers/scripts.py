"""Runs an example of `examples/onnx` where torch cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

MOST_LINES = 60
_WITHOUT_TORCH = (
    "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def run_example(name: str, *arguments: str | Path, cwd: Path) -> str:
    """Returns what an example prints; it is short, and imports no torch."""
    path = ROOT / "examples/onnx" / name
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    command = [sys.executable, "-c", _WITHOUT_TORCH, str(path), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    return done.stdout
