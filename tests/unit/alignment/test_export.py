"""Files of words in time: each format is read back by a reader of its own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.alignment.export import (
    WRITERS,
    read_words,
    to_json,
    to_lrc,
    to_srt,
    to_textgrid,
    to_vtt,
    write_alignment,
)
from jukebox_core.alignment.times import Alignment
from jukebox_core.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = 'say "hey" & <go>\nover the hills'


@pytest.fixture
def alignment() -> Alignment:
    """One character a row; a row lasts 2.5 s."""
    weights = np.zeros((len(TEXT), len(TEXT)), np.float32)
    for row in range(len(TEXT) - 1):
        weights[row, row + 1] = 1
    weights[-1, -1] = 1
    return Alignment(text=TEXT, weights=weights, row_seconds=2.5)


def test_json_has_everything_and_is_read_back(alignment: Alignment, tmp_path: Path) -> None:
    path = write_alignment(alignment, tmp_path / "a.json")
    content = json.loads(path.read_text())
    assert (content["text"], content["seconds"]) == (TEXT, 2.5 * len(TEXT))
    assert [word["text"] for word in content["words"]] == TEXT.split()
    assert [line["text"] for line in content["lines"]] == TEXT.split("\n")
    assert len(content["characters"]) == len(TEXT)
    assert read_words(path) == alignment.words()
    assert to_json(alignment) == path.read_text()


def test_lrc_has_minutes_and_hundredths(alignment: Alignment) -> None:
    assert to_lrc(alignment) == '[00:00.00]say "hey" & <go>\n[00:42.50]over the hills\n'


def test_captions_follow_each_other(alignment: Alignment) -> None:
    first, second = to_srt(alignment).strip().split("\n\n")
    assert first.split("\n") == ["1", "00:00:00,000 --> 00:00:40,000", 'say "hey" & <go>']
    assert second.split("\n")[:2] == ["2", "00:00:42,500 --> 00:01:17,500"]


def test_web_captions_have_words_and_no_markup_of_the_text(alignment: Alignment) -> None:
    text = to_vtt(alignment)
    assert text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:40.000\nsay <00:00:10.000>")
    assert "&amp; " in text
    assert "&lt;go&gt;" in text
    assert "<go>" not in text


def test_tiers_of_a_textgrid_have_no_gaps(alignment: Alignment) -> None:
    text = to_textgrid(alignment)
    end = 2.5 * len(TEXT)
    for tier in text.split("    item [")[1:]:
        times = [float(value) for value in re.findall(r"            xm(?:in|ax) = (\S+)", tier)]
        assert times[0] == 0
        assert times[-1] == end
        assert times[1:-1:2] == times[2::2]
        count = re.search(r"intervals: size = (\d+)", tier)
        assert count is not None
        assert int(count[1]) == len(times) / 2
    assert 'text = """hey"""' in text


def test_an_unknown_format_is_refused(alignment: Alignment, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown format 'lcr'; choose one of json, lrc.*closest: 'lrc'"):
        write_alignment(alignment, tmp_path / "a.lcr")
    assert set(WRITERS) == {"json", "lrc", "srt", "vtt", "TextGrid"}


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"words": [1]}', '{"words": [{"text": "a"}]}'])
def test_other_files_hold_no_words(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "w.json").write_text(content)
    with pytest.raises(StoreError, match="holds no words with times"):
        read_words(tmp_path / "w.json")
