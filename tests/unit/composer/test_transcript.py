"""The notes of composed songs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jukebox_core.composer.render import render
from jukebox_core.composer.score import compose
from jukebox_core.composer.styles import ARTISTS
from jukebox_core.composer.transcript import DRUM_KEYS, VOICE_PROGRAM, score_notes

RATE = 22050


@pytest.mark.parametrize("artist", ARTISTS)
def test_every_part_that_sounds_has_its_notes(artist: str) -> None:
    score = compose(3, artist=artist, genre="blues", seconds=8)
    notes, sound = score_notes(score), ARTISTS[artist]
    assert sum(note.program == VOICE_PROGRAM for note in notes) == len(score.letters) > 0
    assert sum(note.is_drum for note in notes) == (len(score.hits) if sound.drums_level else 0)
    assert {note.pitch for note in notes if note.is_drum} <= set(DRUM_KEYS.values())
    programs = {part.program for part in (sound.chords, sound.bass)}
    assert set(notes.programs) == programs | {VOICE_PROGRAM}


def test_pitches_are_those_that_are_heard() -> None:
    """The first bass note alone sounds at its pitch, and not an octave below; music boxes play an octave higher."""
    for artist in ("piano and voice", "music box"):
        score = compose(0, artist=artist, genre="waltz", seconds=4, sung=False)
        bass = next(note for note in score.notes if note.part == "bass")
        alone = replace(score, notes=(bass,), hits=())
        [note] = score_notes(alone)
        start = round(note.start * RATE)
        heard = render(alone, RATE)[start : start + RATE, 0]
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)), RATE))  # bins of 1 Hz
        here, below = (440 * 2 ** ((pitch - 69) / 12) for pitch in (note.pitch, note.pitch - 12))
        loudness = [spectrum[round(hertz) - 2 : round(hertz) + 3].max() for hertz in (here, below)]
        assert loudness[0] > 0.2 * spectrum.max(), artist
        assert loudness[1] < 0.1 * loudness[0], artist
