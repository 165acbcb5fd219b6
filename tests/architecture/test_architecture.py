"""What holds the project together: the direction of imports, the public names, and quiet imports."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

import pytest
from importlinter.cli import lint_imports

import jukebox_core
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = ("jukebox_core", "stages", "pipelines")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BESIDES = sorted(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60

PUBLIC = {
    "FeatureConfig",
    "Features",
    "HardwareConfig",
    "Jukebox",
    "JukeboxConfig",
    "JukeboxError",
    "LevelSampling",
    "Music",
    "Piece",
    "Progress",
    "SamplingConfig",
    "Song",
    "load_features",
    "load_model",
    "read_audio",
    "write_audio",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def says_no_torch(path: Path) -> bool:
    return "no torch" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").replace("\n", " ")


def python(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def imported(path: Path, names: set[str]) -> set[str]:
    """The modules of the project that a file imports, at its top or later, but for what only a type checker sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for part in node.body
        for inner in ast.walk(part)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in hidden:
            found |= {f"{node.module}.{each.name}" for each in node.names} & names or {str(node.module)}
        elif isinstance(node, ast.Import) and node not in hidden:
            found |= {each.name for each in node.names}
    return found & names - {module_name(path)}


def test_no_module_imports_itself_by_a_detour() -> None:
    names = {module_name(path) for path in SOURCES}
    TopologicalSorter({module_name(path): imported(path, names) for path in SOURCES}).prepare()  # raises CycleError


def test_imports_point_one_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == 0, capsys.readouterr().out


def test_public_names() -> None:
    assert set(jukebox_core.__all__) == PUBLIC
    assert set(dir(jukebox_core)) == PUBLIC
    with pytest.raises(AttributeError, match="no attribute 'Jukebx'"):
        _ = jukebox_core.Jukebx


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_is_there_and_explains_itself(name: str) -> None:
    found = getattr(jukebox_core, name)
    assert found.__name__ == name
    assert len(inspect.getdoc(found) or "") > 20
    for each, member in inspect.getmembers(found) if inspect.isclass(found) else ():
        if not each.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            assert inspect.getdoc(member), f"{name}.{each} has no docstring"


def test_what_a_type_checker_sees_is_what_is_loaded() -> None:
    tree = ast.parse((ROOT / "jukebox_core/__init__.py").read_text(encoding="utf-8"))
    seen = {
        name.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names
    }
    assert {name: seen[name] for name in PUBLIC} == jukebox_core._HOMES


LIGHT = [
    "jukebox_core",
    "pipelines.cli.main",
    "pipelines.settings.generate",
    *(module_name(p) for p in SOURCES if says_no_torch(p)),
]


def test_light_modules_import_nothing_heavy(tmp_path: Path) -> None:
    assert len(LIGHT) > 10
    program = f"""
import importlib, sys
for name in {LIGHT!r}:
    importlib.import_module(name)
    assert not {{'torch', 'prefect'}} & set(sys.modules), f'{{name}} imports torch or prefect'
"""
    done = python(program, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_nothing_runs_on_import(tmp_path: Path) -> None:
    program = f"""
import importlib, os, sys, threading
os.environ["PREFECT_HOME"] = "prefect"  # its own matter
before, folder = set(os.environ.items()), os.getcwd()
for name in {[module_name(path) for path in SOURCES]!r}:
    importlib.import_module(name)
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    assert not others, f'{{name}} starts {{others}}'
changed = dict(set(os.environ.items()) - before)
assert not {{key for key in changed if not key.startswith(('KMP', 'TORCH'))}}, f'environment: {{changed}}'
assert os.getcwd() == folder
"""
    done = python(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert [path for path in left if not path.startswith("prefect")] == []


@pytest.mark.parametrize("path", SOURCES + BESIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines < MOST_LINES_OF_A_FUNCTION, f"{node.name} has {lines} lines"


def test_tests_mirror_the_folders_of_their_sources() -> None:
    """`tests/unit/a/b` tests `jukebox_core/a/b`, or `stages/b` and `pipelines/b` below folders of these names."""
    for folder in {path.parent.relative_to(ROOT / "tests/unit") for path in (ROOT / "tests/unit").rglob("test_*.py")}:
        inside = ROOT / folder if folder.parts[:1] in (("stages",), ("pipelines",)) else ROOT / "jukebox_core" / folder
        assert inside.is_dir(), f"tests/unit/{folder} mirrors no folder"
