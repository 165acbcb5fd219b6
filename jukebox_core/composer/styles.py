"""Genres as patterns of notes, and artists as sets of instruments. Imports no torch.

Beats count from the first of a bar. Degrees are steps of the scale from 0, the tonic. All genres sing a letter in about
a quarter of a second, so that lyrics have the same pace in every style.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jukebox_core.errors import LabelError, did_you_mean

MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
MIXOLYDIAN = (0, 2, 4, 5, 7, 9, 10)

Drum = Literal["kick", "snare", "hat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Genre:
    """Patterns of a genre."""

    beats: int  # per bar
    tempos: tuple[int, ...]  # beats per minute
    letter: float  # length of a sung letter, in beats
    swing: float = 0.5  # start of the second half of a beat
    scale: tuple[int, ...] = MAJOR  # semitones
    singing: tuple[int, ...] = (0, 2, 4, 7, 9)  # semitones of sung letters
    seventh: bool = False  # chords have a minor seventh
    progressions: tuple[tuple[int, ...], ...]  # degrees of chords, one per bar; a section uses one
    bass: tuple[tuple[float, float, int], ...]  # beat, length, steps of the chord: 0 root, 1 third, 2 fifth, 3 octave
    chords: tuple[tuple[float, float, int], ...]  # beat, length, which note of the chord; -1 all of them
    rhythms: tuple[tuple[float, ...], ...]  # onsets of the melody, in beats
    drums: tuple[tuple[Drum, tuple[float, ...], float], ...] = ()  # drum, beats, loudness


GENRES = {
    "folk": Genre(
        beats=4,
        tempos=(112, 118),
        letter=0.5,
        swing=0.54,
        progressions=((0, 3, 0, 4, 0, 3, 4, 0), (5, 3, 0, 4, 5, 3, 4, 0), (0, 4, 5, 3, 0, 4, 3, 0)),
        bass=((0, 2, 0), (2, 2, 2)),
        chords=tuple((half / 2, 0.9, (0, 1, 2, 1)[half % 4]) for half in range(8)),
        rhythms=((0, 1, 1.5, 2, 3), (0, 0.5, 1, 2, 3, 3.5), (0, 1.5, 2, 3), (0, 1, 2, 2.5, 3)),
        drums=(("kick", (0, 2), 0.5), ("hat", (1, 1.5, 3, 3.5), 0.6)),
    ),
    "waltz": Genre(
        beats=3,
        tempos=(120, 126),
        letter=0.5,
        progressions=((0, 0, 4, 4, 4, 4, 0, 0), (0, 5, 1, 4, 0, 5, 4, 0), (3, 3, 0, 0, 4, 4, 0, 0)),
        bass=((0, 1.4, 0),),
        chords=((1, 0.6, -1), (2, 0.6, -1)),
        rhythms=((0, 1, 2), (0, 2), (0, 1, 1.5, 2), (0, 0.5, 1, 2, 2.5)),
        drums=(("kick", (0,), 0.7), ("hat", (1, 2), 0.7)),
    ),
    "march": Genre(
        beats=4,
        tempos=(108, 116),
        letter=0.5,
        progressions=((0, 0, 4, 0, 3, 0, 4, 0), (0, 4, 4, 0, 5, 1, 4, 0)),
        bass=((0, 0.8, 0), (1, 0.8, 2), (2, 0.8, 0), (3, 0.8, 2)),
        chords=((0.5, 0.3, -1), (1.5, 0.3, -1), (2.5, 0.3, -1), (3.5, 0.3, -1)),
        rhythms=((0, 0.75, 1, 2, 2.75, 3), (0, 1, 1.75, 2, 3), (0, 0.75, 1, 1.75, 2, 3), (0, 1, 2, 3)),
        drums=(("kick", (0, 2), 0.9), ("snare", (1, 1.5, 3, 3.25, 3.5, 3.75), 0.6)),
    ),
    "blues": Genre(
        beats=4,
        tempos=(114, 120),
        letter=0.5,
        swing=0.66,
        scale=MIXOLYDIAN,
        singing=(0, 3, 5, 7, 10),
        seventh=True,
        progressions=((0, 0, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4), (0, 3, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4)),
        bass=((0, 0.95, 0), (1, 0.95, 1), (2, 0.95, 2), (3, 0.95, 3)),
        chords=((0.5, 0.4, -1), (2.5, 0.4, -1)),
        rhythms=((0, 0.5, 1.5, 2, 3), (0.5, 1, 1.5, 2.5, 3), (0, 1, 1.5, 2, 2.5), (0, 0.5, 1, 2)),
        drums=(("kick", (0, 2), 0.7), ("snare", (1, 3), 0.6), ("hat", (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5), 0.7)),
    ),
    "chorale": Genre(
        beats=4,
        tempos=(58, 62),
        letter=0.25,
        scale=MINOR,
        singing=(0, 3, 5, 7, 10),
        progressions=((0, 3, 6, 2, 5, 3, 4, 0), (0, 5, 3, 4, 0, 2, 4, 0)),
        bass=((0, 2, 0), (2, 2, 2)),
        chords=((0, 2, -1), (2, 2, -1)),
        rhythms=((0, 1, 2, 3), (0, 2, 3), (0, 1, 1.5, 2, 3)),
    ),
    "dance": Genre(
        beats=4,
        tempos=(122, 128),
        letter=0.5,
        scale=MINOR,
        singing=(0, 3, 5, 7, 10),
        progressions=((0, 5, 2, 6, 0, 5, 2, 6), (0, 0, 5, 6, 0, 0, 5, 6)),
        bass=tuple((half / 2, 0.4, 3 * (half % 2)) for half in range(8)),
        chords=((0.5, 0.4, -1), (1.5, 0.4, -1), (2.5, 0.4, -1), (3.5, 0.4, -1)),
        rhythms=((0, 0.5, 1.5, 2, 3), (0, 0.75, 1.5, 2, 2.75, 3.5), (0, 0.5, 1, 1.5, 2.5, 3)),
        drums=(("kick", (0, 1, 2, 3), 1.0), ("snare", (1, 3), 0.5), ("hat", (0.5, 1.5, 2.5, 3.5), 0.9)),
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """Synthesis parameters of an instrument."""

    partials: tuple[float, ...]  # amplitude of each harmonic
    attack: float  # seconds
    decay: float | None = None  # seconds to fall to 1/e; None: sustained until the note ends
    damping: float = 0.0  # faster decay of higher partials: the k-th in decay / k**damping
    release: float = 0.06  # seconds
    vibrato: float = 0.0  # depth, relative to the frequency
    noise: float = 0.0  # level of the onset's noise: hammer, bow or breath
    stretch: float = 0.0  # inharmonicity: the k-th partial is at k * sqrt(1 + stretch * k * k)
    octaves: int = 0  # transposition
    program: int = 0  # of General MIDI, from 0, whose instrument it resembles


@dataclass(frozen=True, kw_only=True, slots=True)
class Artist:
    """A sound and a level for every part; parts at level 0 are silent."""

    melody: Sound
    chords: Sound
    bass: Sound
    melody_level: float = 1.0
    chords_level: float = 0.42
    bass_level: float = 0.8
    voice_level: float = 1.0
    drums_level: float = 0.0
    electronic: bool = False  # drum sounds


_PIANO = Sound(
    partials=(1, 0.55, 0.3, 0.2, 0.12, 0.08, 0.05),
    attack=0.004,
    decay=0.9,
    damping=0.45,
    noise=0.05,
    stretch=0.0004,
    program=0,
)
_GUITAR = Sound(
    partials=(1, 0.8, 0.55, 0.35, 0.3, 0.2, 0.12, 0.08),
    attack=0.003,
    decay=0.55,
    damping=0.7,
    noise=0.08,
    stretch=0.0001,
    program=24,
)
_STRINGS = Sound(
    partials=tuple(1 / k for k in range(1, 11)), attack=0.09, release=0.14, vibrato=0.004, noise=0.015, program=48
)
_BRASS = Sound(
    partials=(0.7, 1, 0.9, 0.7, 0.5, 0.33, 0.22, 0.14, 0.09),
    attack=0.045,
    release=0.08,
    vibrato=0.002,
    noise=0.02,
    program=61,
)
_TUBA = Sound(partials=(1, 0.8, 0.4, 0.2, 0.1), attack=0.03, decay=0.7, release=0.08, program=58)
_ORGAN = Sound(partials=(1, 0.7, 0.35, 0.45, 0, 0.2, 0, 0.3), attack=0.015, release=0.04, program=16)
_ORGAN_PEDAL = Sound(partials=(1, 0.6, 0.1, 0.2), attack=0.02, release=0.05, program=19)
_BASS_GUITAR = Sound(partials=(1, 0.7, 0.45, 0.25, 0.12), attack=0.005, decay=0.5, damping=0.6, noise=0.03, program=33)
_VIBRAPHONE = Sound(
    partials=(1, 0, 0, 0.35, 0, 0, 0, 0, 0, 0.08), attack=0.003, decay=0.8, damping=0.5, noise=0.03, program=11
)
_LEAD = Sound(
    partials=tuple(1 / k if k % 2 else 0.1 / k for k in range(1, 14)),
    attack=0.008,
    release=0.05,
    vibrato=0.003,
    program=80,
)
_PAD = Sound(partials=(1, 0.5, 0.33, 0.2, 0.1), attack=0.05, release=0.12, program=88)
_SUB = Sound(partials=(1, 0.35, 0.2, 0.1), attack=0.006, decay=0.6, release=0.03, program=38)
_BOX = Sound(
    partials=(1, 0.06, 0.0, 0.0, 0.0, 0.3), attack=0.002, decay=0.7, damping=0.55, noise=0.04, octaves=1, program=10
)
_BOX_LOW = Sound(partials=(1, 0.1, 0.0, 0.2), attack=0.002, decay=0.8, damping=0.5, noise=0.03, octaves=1, program=10)

ARTISTS = {
    "piano and voice": Artist(melody=_PIANO, chords=_PIANO, bass=_PIANO),
    "guitar and voice": Artist(melody=_GUITAR, chords=_GUITAR, bass=_GUITAR),
    "string quartet": Artist(melody=_STRINGS, chords=_STRINGS, bass=_STRINGS, chords_level=0.3, bass_level=0.6),
    "brass band": Artist(melody=_BRASS, chords=_BRASS, bass=_TUBA, chords_level=0.28, bass_level=0.9, drums_level=0.55),
    "organ": Artist(melody=_ORGAN, chords=_ORGAN, bass=_ORGAN_PEDAL, chords_level=0.22, bass_level=0.5),
    "drums and bass": Artist(
        melody=_VIBRAPHONE, chords=_VIBRAPHONE, bass=_BASS_GUITAR, chords_level=0.2, bass_level=1.3, drums_level=1.0
    ),
    "synthesizer": Artist(
        melody=_LEAD, chords=_PAD, bass=_SUB, chords_level=0.3, bass_level=1.0, drums_level=0.8, electronic=True
    ),
    "music box": Artist(melody=_BOX, chords=_BOX, bass=_BOX_LOW, chords_level=0.4, bass_level=0.5, voice_level=0.8),
}


def genre_of(name: str) -> Genre:
    """Returns the genre of that name; LabelError if it is unknown."""
    return GENRES[_require_known("genre", name, tuple(GENRES))]


def artist_of(name: str) -> Artist:
    """Returns the artist of that name; LabelError if it is unknown."""
    return ARTISTS[_require_known("artist", name, tuple(ARTISTS))]


def _require_known(noun: str, name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise LabelError(
            f"{noun} {name!r} is unknown to the composer; choose {', '.join(map(repr, names))}"
            f"{did_you_mean(name, names)}"
        )
    return name
