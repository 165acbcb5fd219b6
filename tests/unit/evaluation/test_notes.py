from __future__ import annotations

from jukebox_core.evaluation.notes import evaluate, match, multi_instrument
from jukebox_core.notes.note import Note

PIANO, BASS = Note(0.0, 1.0, 60, 90, 0), Note(0.0, 1.0, 40, 90, 33)
KICK = Note(0.5, 0.51, 36, 90, 0, is_drum=True)
MUSIC = [PIANO, BASS, KICK]


def test_the_same_notes_score_1_and_no_notes_0() -> None:
    assert [score.f1 for score in evaluate(MUSIC, MUSIC)] == [1.0] * 4
    assert [score.f1 for score in evaluate(MUSIC, [])] == [0.0] * 4
    assert [score.f1 for score in evaluate([], MUSIC)] == [0.0] * 4
    assert [score.f1 for score in evaluate([], [])] == [0.0] * 4


def test_an_end_counts_only_where_ends_are_compared() -> None:
    late = [PIANO._replace(end=1.5), BASS]
    assert match([PIANO, BASS], late, offsets=False).f1 == 1.0
    assert match([PIANO, BASS], late, offsets=True).f1 == 0.5


def test_a_wrong_program_counts_only_where_instruments_are_compared() -> None:
    other = [PIANO._replace(program=1), BASS, KICK]
    assert evaluate(MUSIC, other).onset_offset.f1 == 1.0
    assert multi_instrument(MUSIC, other).f1 == 2 / 3
    assert multi_instrument(MUSIC, other, "midi_class").f1 == 1.0


def test_a_drum_is_no_pitched_note() -> None:
    assert evaluate([KICK], [KICK._replace(is_drum=False)]).drums.f1 == 0.0
    assert evaluate([KICK], [KICK._replace(end=2.0)]).multi_instrument.f1 == 1.0
