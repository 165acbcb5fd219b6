"""The words of the report: the song's own text, piece by piece, with the times of the text that the model read."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from jukebox_core.alignment.export import TimedText
from jukebox_core.alignment.times import Timed
from stages.sound.report import Piece, Report, Song, pieces, position, write_report

if TYPE_CHECKING:
    from pathlib import Path

READ = TimedText(
    "ca va\nbien tard",
    (Timed("ca", 0, 2, 0.5, 0.7), Timed("va", 3, 5, 0.9, 1.0, estimated=True), Timed("bien", 6, 10, 4.0, 4.5)),
)


def test_words_of_the_user_have_the_times_of_the_words_that_the_model_read() -> None:
    assert pieces("  Ça va,\n\tbien tard ", READ) == [
        Piece("  "),
        Piece("Ça", 0.5, 0.9),  # until the next word begins
        Piece(" "),
        Piece("va,", 0.9, 2.0, estimated=True),  # at most a second after its end
        Piece("\n\t"),
        Piece("bien", 4.0, 5.5),
        Piece(" "),
        Piece("tard"),  # not reached
        Piece(" "),
    ]


def test_a_text_that_lost_words_is_shown_as_the_model_read_it() -> None:
    assert "".join(piece.text for piece in pieces("ça 何 va bien tard", READ)) == READ.text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00.0"), (3.44, "0:03.4"), (59.96, "1:00.0"), (3723.4, "1:02:03.4")]
)
def test_positions_are_shown_as_players_show_them(seconds: float, shown: str) -> None:
    assert position(seconds) == shown


def test_words_are_buttons_and_stay_text(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script> va bien tard'
    song = Song(index=0, artist="a", genre="b", lyrics=evil, tracks=(), words=READ)
    report = Report(title="t", model="mini", trained=True, licence="", settings={}, songs=(song,))
    page = write_report(tmp_path, report).read_text("utf-8")
    assert page.count("<button") == 3
    assert page.count("<script>") == 1
    assert 'data-start="0.900" data-end="2.000" title="0:00.9">va</button>' in page
    assert page.count('tabindex="0"') == 1
    plain = dataclasses.replace(report, songs=(dataclasses.replace(song, words=None),))
    assert "<button" not in write_report(tmp_path, plain).read_text("utf-8")
