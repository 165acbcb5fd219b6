"""Plain text for messages and terminals: sizes, durations and tables. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


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


def format_table(rows: Iterable[Sequence[object]]) -> list[str]:
    """Returns the lines of a table: each column as wide as its widest cell, two spaces between columns.

    Args:
        rows: the cells, row by row, the heading first if it has one; every row has the same number of cells.

    Raises:
        ValueError: the rows differ in length.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def printable(text: str) -> str:
    """Returns `text` with control characters, and bytes that are not UTF-8, as escapes: fit for any terminal."""
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return visible.encode("utf-8", "backslashreplace").decode("utf-8")
