"""Statistics of notes: what is known of a piece by its making is found."""

from __future__ import annotations

import numpy as np
import pytest

from jukebox_core.composer.score import compose
from jukebox_core.evaluation.scores import average, find_key, find_loop, find_tempo, statistics
from jukebox_core.notes.note import Note
from jukebox_core.notes.notes import Notes

MAJOR = (0, 2, 4, 5, 7, 9, 11, 12)


def scale(tonic: int, steps: tuple[int, ...] = MAJOR, beat: float = 0.5) -> list[Note]:
    longer = {0: 1.0, 7: 0.8}
    return [
        Note(index * beat, index * beat + beat * longer.get(step % 12, 0.4), tonic + step)
        for index, step in enumerate(steps)
    ]


@pytest.mark.parametrize(("tonic", "name"), [(60, "C major"), (63, "E flat major"), (69, "A major")])
def test_the_key_of_a_scale_is_found(tonic: int, name: str) -> None:
    key, clarity = find_key(scale(tonic))
    assert key == name
    assert clarity is not None
    assert clarity > 0.7


@pytest.mark.parametrize("tempo", [60, 90, 120, 150])
def test_the_tempo_of_beats_with_a_few_notes_between_is_found(tempo: int) -> None:
    random, beat = np.random.default_rng(tempo), 60 / tempo
    beats = [Note(index * beat, index * beat + 0.1, 60, 100) for index in range(40)]
    between = [note._replace(start=note.start + beat / 2, end=note.end + beat / 2) for note in beats[::5]]
    jitter = random.normal(0, 0.004, 48)
    notes = [n._replace(start=max(0.0, n.start + j)) for n, j in zip([*beats, *between], jitter, strict=True)]
    found = find_tempo(notes)
    assert found is not None
    assert min(abs(found / tempo - ratio) for ratio in (0.5, 1.0, 2.0)) < 0.01
    if 80 <= tempo <= 160:
        assert found == pytest.approx(tempo, rel=0.01)


@pytest.mark.parametrize("genre", ["folk", "march", "dance", "blues"])
def test_the_tempo_of_a_composed_song_is_found(genre: str) -> None:
    score = compose(7, artist="organ", genre=genre, seconds=25, sung=False)
    notes = [Note(each.start, each.start + each.length, each.pitch) for each in score.notes]
    found = find_tempo(notes)
    assert found is not None
    assert min(abs(found / score.tempo - ratio) for ratio in (0.5, 1.0, 2.0)) < 0.02


def test_a_loop_is_found_and_music_that_does_not_come_again_has_none() -> None:
    random = np.random.default_rng(1)
    bar = [
        (float(at), int(pitch))
        for at, pitch in zip(random.uniform(0, 2.4, 12), random.integers(40, 80, 12), strict=True)
    ]
    loop = [Note(2.4 * turn + at, 2.4 * turn + at + 0.1, pitch) for turn in range(6) for at, pitch in bar]
    seconds, share = find_loop(loop)
    assert seconds == pytest.approx(2.4, abs=0.021)
    assert share == 1.0
    times, pitches = random.uniform(0, 14, 72).tolist(), random.integers(0, 128, 72).tolist()
    _, share = find_loop([Note(at, at + 0.1, pitch) for at, pitch in zip(times, pitches, strict=True)])
    assert share is not None
    assert share < 0.2


def test_lengths_polyphony_and_silence_are_counted() -> None:
    notes = Notes.of(
        [Note(0, 1, 60), Note(0, 1, 64, program=4), Note(1, 3, 67), Note(0.5, 0.51, 36, is_drum=True)], seconds=4.0
    )
    found = statistics(notes)
    assert (found.seconds, found.notes, found.drums, found.instruments, found.most_at_once) == (4.0, 4, 1, 3, 2)
    assert found.polyphony == pytest.approx(4 / 3)
    assert found.silence == 0.25
    assert (found.median_length, found.notes_per_second) == (1.0, 1.0)
    assert (found.tempo, found.loop_seconds) == (None, None)


def test_pieces_without_notes_have_statistics_and_averages_leave_them_out() -> None:
    empty, full = statistics(Notes()), statistics(Notes.of(scale(60)))
    assert (empty.key, empty.tempo, empty.polyphony, empty.silence) == (None, None, None, 1.0)
    both = average([empty, full])
    assert (both["key"], both["median_length"]) == ("C major", full.median_length)
    assert both["notes"] == 4.0
