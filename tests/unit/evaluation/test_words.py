from __future__ import annotations

import numpy as np
import pytest

from jukebox_core.composer.render import render
from jukebox_core.composer.score import Score, compose
from jukebox_core.evaluation.words import SungNote, words_fit

RATE = 22050


def notes(score: Score) -> list[SungNote]:
    return [SungNote(each.start, each.start + each.length, each.pitch) for each in score.letters]


@pytest.mark.parametrize("artist", ["piano and voice", "drums and bass"])
def test_the_words_of_a_song_fit_better_than_others_in_any_key(artist: str) -> None:
    """Another seed is another key; the words decide the steps of the scale."""
    song, others = (
        [compose(seed, artist=artist, genre="folk", seconds=10, lyrics=words) for seed in range(6)]
        for words in ("the river runs below the town and on", "a lantern by the gate is all we have")
    )
    audio = render(song[0], RATE)[:, 0]
    right = [words_fit(audio, RATE, notes(each)) for each in song if each.tempo == song[0].tempo]
    wrong = [words_fit(audio, RATE, notes(each)) for each in others if each.tempo == song[0].tempo]
    assert len(right) > 1
    assert min(right) > max(wrong) + 0.3


def test_without_notes_or_sound_nothing_fits() -> None:
    silence = np.zeros(RATE, np.float32)
    assert words_fit(silence, RATE, []) == 0
    assert words_fit(silence, RATE, [SungNote(0, 0.25, 60)]) == pytest.approx(0, abs=1e-5)
    assert words_fit(silence, RATE, [SungNote(2, 2.25, 60)]) == 0  # after the end
