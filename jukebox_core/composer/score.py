"""Composes songs: form, harmony, bass, chords, melody, drums and lyrics, as notes with times. Imports no torch.

A song is composed bar by bar, and a bar depends only on the seed and on the bars before it: a shorter song is a prefix
of a longer one, apart from its ending.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from jukebox_core.composer.styles import genre_of
from jukebox_core.composer.words import write_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jukebox_core.composer.styles import Drum, Genre

Part = Literal["melody", "chords", "bass"]

TAIL_SECONDS = 0.6  # decay after the last bar

_TONICS = (48, 50, 52, 53, 55, 57)  # MIDI notes: C, D, E, F, G and A below middle C
_FORM = "AABA"  # sections; each has its own progression, melody and accents
_VOICE = (55, 72)  # range of MIDI notes
_MELODY = (60, 79)
_CHORDS = (53, 69)
_BASS = (33, 50)
_TRIAD = (0, 2, 4)  # steps of the scale above a chord's root
_LOUD = (1.0, 0.8, 0.9, 0.8)  # by beat of the bar
_LINE_BARS = 4  # length of a line of the lyrics


class Note(NamedTuple):
    """A note of one part."""

    part: Part
    start: float  # seconds
    length: float  # seconds
    pitch: int  # MIDI note
    loudness: float  # 0 to 1


class Hit(NamedTuple):
    """A hit of a drum."""

    drum: Drum
    start: float  # seconds
    loudness: float


class Letter(NamedTuple):
    """A sung character of the lyrics."""

    character: str
    start: float  # seconds
    length: float  # seconds
    pitch: int  # MIDI note


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A song as notes."""

    artist: str
    genre: str
    lyrics: str  # one character per time slot, from the first bar to the end of the decay
    tempo: int  # beats a minute
    tonic: int  # MIDI note
    seconds: float  # end of the last bar, before the decay
    notes: tuple[Note, ...]
    hits: tuple[Hit, ...]
    letters: tuple[Letter, ...]


def compose(
    seed: int,
    *,
    artist: str,
    genre: str,
    seconds: float,
    sung: bool = True,
    lyrics: str | None = None,
    ends: bool = True,
) -> Score:
    """Returns a song of at least two whole bars.

    Args:
        seed: the notes follow from seed, genre and length; they are the same for every artist.
        artist: name of an artist.
        genre: name of a genre.
        seconds: length, rounded to whole bars.
        sung: whether it has lyrics; without them an instrument plays the melody.
        lyrics: words to sing, one character per time slot, cut to the song's length. None: generated lyrics.
        ends: whether the last bar is an ending.

    Raises:
        LabelError: an unknown genre.
    """
    style = genre_of(genre)
    rng = np.random.default_rng((seed, 0))
    tempo = int(rng.choice(style.tempos))
    tonic = int(rng.choice(_TONICS))
    bars = max(2, round(seconds * tempo / 60 / style.beats))
    writer = _Writer(style, seed, tempo, tonic, bars, ends=ends)
    if lyrics is None:
        lyrics = writer.own_words() if sung else ""
    notes, hits = writer.play(melody=not lyrics)
    return Score(
        artist=artist,
        genre=genre,
        lyrics=lyrics,
        tempo=tempo,
        tonic=tonic,
        seconds=bars * style.beats * 60 / tempo,
        notes=tuple(notes),
        hits=tuple(hits),
        letters=tuple(writer.sing(lyrics)),
    )


class _Writer:
    """Composes the bars of one song."""

    def __init__(self, style: Genre, seed: int, tempo: int, tonic: int, bars: int, *, ends: bool) -> None:
        self._style, self._seed, self._bars, self._ends = style, seed, bars, ends
        self._tonic, self._beat = tonic, 60 / tempo
        self._line = round(_LINE_BARS * style.beats / style.letter)

    def play(self, *, melody: bool) -> tuple[list[Note], list[Hit]]:
        """Returns the notes of the instruments and the hits of the drums, in order of time."""
        notes: list[Note] = []
        hits: list[Hit] = []
        voicing: tuple[int, ...] = ()
        pitch = self._tonic + 19
        for bar in range(self._bars):
            rng, root, new_section = self._bar(bar)
            last = self._ends and bar == self._bars - 1
            chord = [self._pitch(root + step) % 12 for step in _TRIAD]
            if self._style.seventh:
                chord = [chord[0], (chord[0] + 4) % 12, (chord[0] + 10) % 12]
            voicing = _nearest_voicing(chord, voicing)
            if new_section:
                pitch = self._tonic + 19
            bar_notes = [*self._bass(bar, root, last=last), *self._chords(bar, voicing, last=last)]
            if melody:
                tune = list(self._melody(bar, rng, chord, pitch, last=last))
                pitch = tune[-1].pitch
                bar_notes += tune
            notes += sorted(bar_notes, key=lambda note: note.start)
            if not last:
                hits += self._drums(bar)
        return notes, hits

    def own_words(self) -> str:
        """Returns generated lyrics for the whole song: one line per four bars, and line breaks during the decay.

        Characters are spread evenly over time, as the choice of a window's lyrics assumes.
        """
        slots = round(self._bars * self._style.beats / self._style.letter)
        lines = []
        for first in range(0, slots, self._line):
            rng = np.random.default_rng((self._seed, 1, first))
            lines.append(write_line(rng, min(self._line, slots - first) - 1))
        return "".join(line + "\n" for line in lines) + "\n" * round(TAIL_SECONDS / (self._style.letter * self._beat))

    def sing(self, lyrics: str) -> Iterator[Letter]:
        """Yields the sung letters; blanks and punctuation are silent time slots."""
        slots = round(self._bars * self._style.beats / self._style.letter)
        pitch = sum(_VOICE) // 2
        for slot, character in enumerate(lyrics[:slots]):
            if not character.isalnum():
                continue
            degree = self._style.singing[letter_number(character) % len(self._style.singing)]
            pitch = _near((self._tonic + degree) % 12, pitch, _VOICE)
            start, stop = (self._time(0, each * self._style.letter) for each in (slot, slot + 1))
            yield Letter(character.lower(), start, stop - start, pitch)

    def _bar(self, bar: int) -> tuple[np.random.Generator, int, bool]:
        """Returns a bar's random generator, the degree of its chord, and whether a section begins."""
        length = len(self._style.progressions[0])
        section, place = divmod(bar, length)
        letter = ord(_FORM[section % len(_FORM)])
        of_section = np.random.default_rng((self._seed, 2, letter))
        progression = self._style.progressions[int(of_section.integers(len(self._style.progressions)))]
        last = self._ends and bar == self._bars - 1
        return np.random.default_rng((self._seed, 3, letter, place)), 0 if last else progression[place], place == 0

    def _time(self, bar: int, beat: float) -> float:
        """Returns the start of a beat in seconds; its second half is delayed by the swing."""
        whole, half = divmod(bar * self._style.beats + beat, 1)
        swung = half * 2 * self._style.swing if half <= 0.5 else 1 - (1 - half) * 2 * (1 - self._style.swing)
        return float((whole + swung) * self._beat)

    def _pitch(self, degree: int) -> int:
        octave, step = divmod(degree, len(self._style.scale))
        return self._tonic + 12 * octave + self._style.scale[step]

    def _note(self, part: Part, bar: int, beat: float, length: float, pitch: int) -> Note:
        start = self._time(bar, beat)
        loudness = _LOUD[int(beat) % len(_LOUD)] * (1 if beat == int(beat) else 0.85)
        return Note(part, start, length * self._beat, pitch, loudness)

    def _bass(self, bar: int, root: int, *, last: bool) -> Iterator[Note]:
        low = _near(self._pitch(root) % 12, sum(_BASS) // 2, _BASS)
        steps = [0, 4 if self._style.seventh else self._pitch(root + 2) - self._pitch(root), 7, 12]
        for beat, length, step in self._style.bass[:1] if last else self._style.bass:
            yield self._note("bass", bar, beat, self._style.beats if last else length, low + steps[step])

    def _chords(self, bar: int, voicing: Sequence[int], *, last: bool) -> Iterator[Note]:
        if last:
            yield from (self._note("chords", bar, 0, self._style.beats, pitch) for pitch in voicing)
            return
        for beat, length, which in self._style.chords:
            for pitch in voicing if which < 0 else (voicing[which],):
                yield self._note("chords", bar, beat, length, pitch)

    def _melody(
        self, bar: int, rng: np.random.Generator, chord: Sequence[int], pitch: int, *, last: bool
    ) -> Iterator[Note]:
        rhythm = self._style.rhythms[int(rng.integers(len(self._style.rhythms)))]
        onsets = (0.0,) if last else rhythm
        scale = [(self._tonic + step) % 12 for step in self._style.scale]
        for onset, following in zip(onsets, (*onsets[1:], float(self._style.beats)), strict=True):
            wanted = int(np.clip(pitch + rng.integers(-4, 5), *_MELODY))
            allowed = chord if onset == int(onset) and int(onset) % 2 == 0 else scale
            pitch = min((_near(each, wanted, _MELODY) for each in allowed), key=lambda each: abs(each - wanted))
            yield self._note("melody", bar, onset, 0.95 * (following - onset), pitch)

    def _drums(self, bar: int) -> list[Hit]:
        hits = [
            Hit(drum, self._time(bar, beat), loudness * (1 if beat == int(beat) else 0.8))
            for drum, beats, loudness in self._style.drums
            for beat in beats
        ]
        return sorted(hits, key=lambda hit: hit.start)


def letter_number(character: str) -> int:
    """Returns 0 to 25 for a letter of either case, and the value of a digit; decides the pitch it is sung on."""
    lower = character.lower()
    return ord(lower) - ord("a") if "a" <= lower <= "z" else ord(lower) % 48 % 26


def _near(pitch_class: int, pitch: int, limits: tuple[int, int]) -> int:
    """Returns the note of a pitch class nearest to ``pitch``, within limits that span at least an octave."""
    low, high = limits
    notes = [note for note in range(low, high + 1) if note % 12 == pitch_class]
    return min(notes, key=lambda note: abs(note - pitch))


def _nearest_voicing(chord: Sequence[int], before: Sequence[int]) -> tuple[int, ...]:
    """Returns the chord's notes, low to high, in the voicing with the least movement of voices."""
    low, high = _CHORDS
    places = [[note for note in range(low, high + 1) if note % 12 == each] for each in chord]
    voicings = [tuple(sorted(notes)) for notes in product(*places)]
    close = [notes for notes in voicings if notes[-1] - notes[0] <= 12]
    target = before or (57, 60, 64)
    return min(close, key=lambda notes: (sum(abs(a - b) for a, b in zip(notes, target, strict=True)), notes))
