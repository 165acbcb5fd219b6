"""`.ci/run` retries no test silently: it lists flaky tests last, and fails where a test fails twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

MAKEFILE = """
.PHONY: check demo test test-pipelines test-native
check demo test-pipelines test-native:
\t@true
test:
\t.venv/bin/python -m pytest -q test_sample.py
"""
FLAKY = """
from pathlib import Path

def test_fails_once():
    seen = Path("seen")
    first = not seen.exists()
    seen.touch()
    assert not first
"""
BROKEN = "def test_fails_always(): assert False\n"
FINE = "def test_passes(): pass\n"


def run_ci(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """The outcome of `.ci/run` in a project whose target `test` runs `tests`."""
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", folder / ".ci/run")
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "test_sample.py").write_text(tests)
    (folder / ".venv/bin").mkdir(parents=True)
    python = folder / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    programs = folder / "bin"
    programs.mkdir()
    for name in ("chromium", "fluidsynth"):  # so that none is installed
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MAKE"))}
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [folder / ".ci/run"], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_a_test_that_failed_once_is_listed_last_and_the_run_passes(tmp_path: Path) -> None:
    done = run_ci(tmp_path, FINE + FLAKY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2:] == ["flaky:", "  test_sample.py::test_fails_once"]
    assert "\nfailed:" not in done.stdout


def test_a_test_that_failed_twice_fails_the_run(tmp_path: Path) -> None:
    done = run_ci(tmp_path, FLAKY + BROKEN)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed:\n  test_sample.py::test_fails_always\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "  test_sample.py::test_fails_once"


def test_a_run_without_failures_names_none(tmp_path: Path) -> None:
    done = run_ci(tmp_path, FINE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "flaky:" not in done.stdout


@pytest.mark.parametrize(
    "tests",
    [
        pytest.param("import nothing_of_that_name\n", id="a file that cannot be imported"),
        pytest.param("".join(f"def test_{n}(): assert False\n" for n in range(11)), id="more failures than are rerun"),
        pytest.param("import os\nos._exit(3)\n", id="a pytest that dies"),
    ],
)
def test_a_broken_build_fails_the_run(tmp_path: Path, tests: str) -> None:
    done = run_ci(tmp_path, FINE + tests)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed:" in done.stdout
