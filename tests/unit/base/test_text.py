"""Sizes, durations and tables as plain text."""

from __future__ import annotations

import pytest

from jukebox_core.base.text import format_bytes, format_seconds, format_table, printable


def test_sizes_have_decimal_units() -> None:
    assert [format_bytes(n) for n in (5, 1234, 150_000, 7_726_329, 10_288_727_721)] == [
        "5 B",
        "1.2 kB",
        "150 kB",
        "7.7 MB",
        "10.29 GB",
    ]


def test_durations_have_hours_only_if_they_are_that_long() -> None:
    assert [format_seconds(n) for n in (0, 5.9, 65, 3723)] == ["0:00", "0:05", "1:05", "1:02:03"]


def test_columns_of_a_table_are_as_wide_as_their_widest_cell() -> None:
    assert format_table([("NAME", "SIZE", ""), ("a", 12345, "x"), ("longer", "", "")]) == [
        "NAME    SIZE",
        "a       12345  x",
        "longer",
    ]
    assert format_table([]) == []


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        format_table([("a", "b"), ("c",)])


def test_what_could_steer_a_terminal_is_escaped() -> None:
    assert printable("a\x1b[31m\nb\r\0\u2028\u202e\udce9\x85") == r"a\x1b[31m\nb\r\x00\u2028\u202e\udce9\x85"
    assert (
        printable("Ünïcödé さくら \U0001f468\u200d\U0001f3a4 \xa0") == "Ünïcödé さくら \U0001f468\u200d\U0001f3a4 \xa0"
    )
    assert format_table([("a\nb", 1)]) == [r"a\nb  1"]
