"""The comparison of ways of finding times runs, and its figures are plausible."""

from __future__ import annotations

import pytest

from benchmarks import alignment


def test_figures_count_words_without_a_time_as_wrong() -> None:
    true = {0: 1.0, 5: 2.0, 9: 3.0, 14: 4.0}
    assert alignment.figures([(true, {0: 1.1, 5: 2.4, 9: 2.8})]) == {
        "words": 4,
        "timed": 3,
        "median_ms": 200.0,
        "within_300_ms": 0.5,
    }


@pytest.mark.slow
def test_ways_of_finding_times_are_compared() -> None:
    result = alignment.measure(1, 8.0, 0.5)
    rows = {row["way"]: row for row in result["rows"]}
    assert len(rows) == 5
    [words] = {row["words"] for row in rows.values()}
    assert words == rows["evenly, without music"]["timed"] > 0
    assert 0 < rows["merge=mean, own times"]["median_ms"] < 3000
    assert {len(each) for each in result["focus"].values()} == {1}
    assert result["focus"]["model's head"][0] > 0.3 > result["focus"]["other head"][0]
    assert alignment.table(result).count("\n") == len(rows) + 2 + len(result["focus"])
