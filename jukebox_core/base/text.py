"""Plain text for messages and terminals: sizes, durations and tables. Imports no torch."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ESCAPED = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines
_DIRECTIONS = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))  # reorder what is shown


def format_bytes(size: float) -> str:
    """Returns a number of bytes with a decimal unit: ``5 B``, ``1.2 kB``, ``7.7 MB``, ``150 MB``, ``10.29 GB``."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def format_seconds(seconds: float) -> str:
    """Returns a duration as ``m:ss`` or ``h:mm:ss``, rounded down to whole seconds."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def printable(text: str) -> str:
    """Returns `text` for a terminal or a log: line breaks, escape codes and bytes that are not UTF-8 are escaped.

    Names of files and contents of damaged ones can hold them: they would forge lines, or steer the terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        ascii(each)[1:-1] if unicodedata.category(each) in _ESCAPED or each in _DIRECTIONS else each for each in text
    )


def format_table(rows: Iterable[Sequence[object]]) -> list[str]:
    """Returns the lines of a table: each column as wide as its widest cell, two spaces between columns.

    Args:
        rows: the cells, row by row, the heading first if it has one; every row has the same number of cells.

    Raises:
        ValueError: the rows differ in length.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
