"""Code and pages use the field's words: no private dialect, and no word of one family in the generic folders."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from typing import TYPE_CHECKING

import pytest

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Expressions to avoid, and what to write. `_` separates words, so that parts of names are found too.
DIALECT = {
    r"told|tell(?:s|ing)?": "set, given, conditioned on, reported; distinguish",
    r"anew": "again, or a verb with re-",
    r"whoever": "any caller, any worker",
    r"patiently": "with retries",
    r"milliard": "billion",
    r"written whole": "written atomically",
    r"half there": "partial",
    r"lets? be heard": "plays",
    r"side by side": "in one batch, in parallel",
    r"once for all": "once",
    r"what begins": "name the thing",
    r"(?:go|goes|going|gone|went) through": "traverse, read",
    r"(?:take|takes|taking|taken|took) up": "resume",
    r"a person": "a user",
    r"golden README": "docs/upstream.md",
    r"design rule": "docs/glossary.md",
    r"liven|hush|disarm|farewell|cradle|births|mortal|couriers?|parcels?": "a name that says what it does",
}
# Uses that are right, as (path or folder, the text as it is found): each with its reason beside it.
ALLOWED: frozenset[tuple[str, str]] = frozenset(
    {("jukebox_core/models/checkpoints/legacy.py", "tell")}  # a method of files
)
SUFFIXES = (".py", ".md", ".yaml", ".toml", ".cpp", ".h")
LEFT_OUT = ("tests/golden/", "tests/fixtures/", "tests/architecture/test_words.py")

GENERIC = (
    "alignment",
    "audio",
    "base",
    "evaluation",
    "features",
    "models",
    "runtime",
    "sampling",
    "store",
    "tokens",
    "training",
)
FAMILY_WORDS = re.compile(r"vqvae|prior(?!it)|level_(?!db)|lyric", re.IGNORECASE)  # level_db is loudness
# Words of a family that are right in a generic file, as (file, the text as it is found): the format of codes files, and
# a file of upstream's page.
FAMILY_ALLOWED: frozenset[tuple[str, str]] = frozenset(
    {("tokens/codes.py", "level_"), ("alignment/export.py", "lyric")}
)

_PATTERNS = {
    re.compile(rf"(?<![A-Za-z])(?:{words})(?![A-Za-z])".replace(" ", r"[\s_]+(?:#\s*)?"), re.IGNORECASE): better
    for words, better in DIALECT.items()
}
_SPOKEN = {tokenize.NAME, tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def files() -> list[str]:
    """The files of the project that hold prose or code, from its root."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    paths = (
        done.stdout.splitlines()
        if done.returncode == 0
        else sorted(
            path.relative_to(ROOT).as_posix()
            for folder in ("jukebox_core", "stages", "pipelines", "conf", "docs", "tests", "benchmarks")
            for path in (ROOT / folder).rglob("*")
        )
    )
    return [p for p in paths if p.endswith(SUFFIXES) and not p.startswith(LEFT_OUT) and (ROOT / p).is_file()]


def room(path: str) -> str:
    """The folder of a file, three names deep at most; `.` for files of the root."""
    return "/".join(path.split("/")[:-1][:3]) or "."


def dialect_in(path: str) -> Iterator[str]:
    """Each use of an expression to avoid: where it is, and what to write."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for pattern, better in _PATTERNS.items():
        for found in pattern.finditer(text):
            if not any(path.startswith(where) and found[0] == what for where, what in ALLOWED):
                yield f"{path}:{text.count(chr(10), 0, found.start()) + 1}: {found[0]!r}; write: {better}"


@pytest.mark.parametrize("name", sorted({room(path) for path in files()}))
def test_no_dialect(name: str) -> None:
    found = [each for path in files() if room(path) == name for each in dialect_in(path)]
    assert not found, "\n".join([f"{len(found)} in {name}", *found])


def docstring_lines(tree: ast.AST) -> set[int]:
    """The lines on which docstrings begin."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.body[0].lineno
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and ast.get_docstring(node, clean=False) is not None
    }


def family_words_in(path: Path) -> Iterator[str]:
    """Each name, string or comment of a source file, docstrings excepted, that has a word of one family."""
    source = path.read_text(encoding="utf-8")
    docstrings = docstring_lines(ast.parse(source))
    allowed = {text for file, text in FAMILY_ALLOWED if path.as_posix().endswith(f"/jukebox_core/{file}")}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_docstring = token.type == tokenize.STRING and token.start[0] in docstrings
        if token.type in _SPOKEN and not is_docstring and set(FAMILY_WORDS.findall(token.string)) - allowed:
            yield f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}"


@pytest.mark.parametrize("name", GENERIC)
def test_generic_folders_have_no_word_of_a_family(name: str) -> None:
    sources = sorted((ROOT / "jukebox_core" / name).rglob("*.py"))
    assert sources
    found = [each for path in sources for each in family_words_in(path)]
    assert not found, "\n".join([f"{len(found)} in jukebox_core/{name}", *found])


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Songs that are told the same", 1),
        ("s3_told = telling(told)", 3),
        ("three songs side\n# by side, side_by_side", 2),
        ("intelligible, a personal view, stolid", 0),
    ],
)
def test_expressions_are_found_as_whole_words(text: str, count: int) -> None:
    assert sum(len(pattern.findall(text)) for pattern in _PATTERNS) == count


@pytest.mark.parametrize(
    ("word", "found"),
    [("level_0", True), ("PriorConfig", True), ("a_prior", True), ("priority", False), ("level_db", False)],
)
def test_words_of_a_family_are_found_within_names(word: str, found: bool) -> None:
    assert bool(FAMILY_WORDS.search(word)) is found
