"""The contents of the project's pages: fenced blocks, the commands in them, and targets of links."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from tests.helpers.paths import ROOT

CARD = "jukebox_core/data/mini/README.md"
_TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", CARD)
PAGES = [*_TOP, *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md"))]

Command = tuple[str, ...]


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    return [
        Block(*found)
        for found in re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    ]


def commands(page: str) -> list[Command]:
    """The commands in blocks of the language ``sh``, word by word."""
    lines = "".join(block.text for block in blocks(page) if block.language == "sh").replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := tuple(shlex.split(line, comments=True)))]


def paths(page: str) -> list[str]:
    """The files and folders of the project that the page names as code, from the repository's root."""
    return re.findall(r"`((?:jukebox_core|stages|pipelines|conf|tests|docs|\.ci)/[\w./-]*)`", (ROOT / page).read_text())


def links(page: str) -> list[str]:
    """The targets of the page's links to other files of the project, as they are written."""
    return re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
