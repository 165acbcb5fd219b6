"""The files of pages: others' are unmodified and licensed, and no page asks another server for anything."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pytest

from pipelines.web.application import STATIC

if TYPE_CHECKING:
    from pathlib import Path

WAVESURFER = STATIC / "wavesurfer"  # 8.0.1, from npm
TEMPLATES = STATIC.parent / "templates"
OWN = sorted([*STATIC.glob("*.js"), *STATIC.glob("*.css"), *TEMPLATES.glob("*.html")])


def test_files_of_others_are_as_they_were_published() -> None:
    sums = dict(reversed(line.split("  ")) for line in (WAVESURFER / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {path.name for path in WAVESURFER.iterdir()} - {"SHA256SUMS"}
    for name, expected in sums.items():
        assert hashlib.sha256((WAVESURFER / name).read_bytes()).hexdigest() == expected
    assert "BSD 3-Clause" in (WAVESURFER / "LICENSE").read_text()


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_no_page_loads_from_elsewhere_or_has_inline_code(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.findall(r"(?:src|href|url|import|fetch)\W{1,4}(?:https?:)?//", text)
    assert not re.findall(r"<script>|\son\w+=\"|style=\"|innerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
