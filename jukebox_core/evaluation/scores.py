"""Statistics of a piece of music from its notes alone: key, tempo, polyphony, lengths, loops. Imports no torch.

They need no reference, so they describe music that nobody wrote down, such as the transcription of a generated song.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.notes.general_midi import step_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jukebox_core.notes.note import Note
    from jukebox_core.notes.notes import Notes

    Floats = NDArray[np.float64]

# How well each step of the scale fits a key, from the listening tests of Krumhansl and Kessler (1982).
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)

_FRAME = 0.01  # seconds
_TEMPOS = (50.0, 200.0)  # beats a minute
_USUAL_TEMPO, _OCTAVES = 115.0, 0.7  # tempos are likelier near it; standard deviation in octaves
_BLUR = 0.02  # seconds by which onsets are spread
_FEWEST = 8  # notes from which a tempo and a loop can be found
_LOOPS = (1.0, 30.0)  # seconds
_LOOP_BIN, _LOOP_TOLERANCE = 0.02, 0.05  # seconds
_AS_GOOD = 0.98  # of the best loop's share: the shortest such loop counts


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreStatistics:
    """Statistics of one piece."""

    seconds: float  # length of the music
    notes: int
    drums: int  # of these, drum notes
    instruments: int  # programs, drums counting as one
    notes_per_second: float
    key: str | None  # such as "A minor"; None without pitched notes
    key_clarity: float | None  # correlation of the steps' durations with those usual in the key, at most 1
    tempo: float | None  # beats a minute; None if there are too few notes
    polyphony: float | None  # pitched notes that sound at a time, on average over the time in which any does
    most_at_once: int
    silence: float  # share of the time in which no pitched note sounds
    median_length: float | None  # of pitched notes, in seconds
    short_length: float | None  # which a tenth of them do not exceed
    long_length: float | None  # which a tenth of them reach
    loop_seconds: float | None  # the time after which most notes come again; None if there are too few notes
    loop_share: float | None  # share of notes that do, at the same pitch


def statistics(notes: Notes) -> ScoreStatistics:
    """Returns the statistics of a piece; an empty one has no key, tempo, lengths and loop."""
    pitched = [note for note in notes if not note.is_drum]
    seconds = max(notes.seconds, notes.end)
    key, clarity = find_key(pitched)
    sounding = _sounding(pitched, seconds)
    busy = sounding[sounding > 0]
    lengths = np.array([note.end - note.start for note in pitched])
    short, median, long = np.percentile(lengths, (10, 50, 90)).tolist() if pitched else (None, None, None)
    loop, share = find_loop(notes)
    drums = len(notes) - len(pitched)
    return ScoreStatistics(
        seconds=seconds,
        notes=len(notes),
        drums=drums,
        instruments=len(notes.programs) + (drums > 0),
        notes_per_second=len(notes) / seconds if seconds else 0.0,
        key=key,
        key_clarity=clarity,
        tempo=find_tempo(notes),
        polyphony=float(busy.mean()) if len(busy) else None,
        most_at_once=int(sounding.max(initial=0)),
        silence=float((sounding == 0).mean()) if len(sounding) else 1.0,
        median_length=median,
        short_length=short,
        long_length=long,
        loop_seconds=loop,
        loop_share=share,
    )


def average(pieces: Sequence[ScoreStatistics]) -> dict[str, Any]:
    """Returns the mean of each statistic over the pieces that have it, and the commonest key."""
    found: dict[str, Any] = {}
    for field in fields(ScoreStatistics):
        values = [value for piece in pieces if (value := getattr(piece, field.name)) is not None]
        if field.name == "key":
            found["key"] = max(sorted(set(values)), key=values.count) if values else None
        else:
            found[field.name] = float(np.mean(values)) if values else None
    return found


def find_key(notes: Sequence[Note]) -> tuple[str | None, float | None]:
    """Returns the key of pitched notes, and its correlation with them; None without notes or where all steps are equal.

    The duration of each of the 12 steps is compared with what is usual in each of the 24 keys.
    """
    durations = np.zeros(12)
    for note in notes:
        durations[note.pitch % 12] += note.end - note.start
    if not durations.std():
        return None, None
    best, name = -1.0, ""
    for tonic in range(12):
        for mode, profile in (("major", _MAJOR), ("minor", _MINOR)):
            found = float(np.corrcoef(np.roll(durations, -tonic), profile)[0, 1])
            if found > best:
                best, name = found, f"{step_name(tonic)} {mode}"
    return name, best


def find_tempo(notes: Sequence[Note]) -> float | None:
    """Returns the tempo in beats a minute, 50 to 200; None for fewer than 8 notes, or a shorter piece than two beats.

    The autocorrelation of the onsets, at one to four beats, is weighted by how usual a tempo is. Twice or half the
    tempo of a listener is a common answer, as with all such estimates.
    """
    starts = np.array(sorted(note.start for note in notes))
    if len(starts) < _FEWEST or starts[-1] - starts[0] < 120 / _TEMPOS[1]:
        return None
    frames = np.zeros(int((starts[-1] - starts[0]) / _FRAME) + 2)
    np.add.at(frames, np.round((starts - starts[0]) / _FRAME).astype(int), 1.0)
    reach = np.arange(-5, 6) * _FRAME
    frames = np.convolve(frames, np.exp(-0.5 * (reach / _BLUR) ** 2), mode="same")
    size = 1 << (2 * len(frames)).bit_length()
    power = np.abs(np.fft.rfft(frames - frames.mean(), size)) ** 2
    correlation = np.fft.irfft(power, size)[: len(frames)] / np.arange(len(frames), 0, -1)
    tempos = np.arange(_TEMPOS[0], _TEMPOS[1] + 0.25, 0.25)
    lags = 60 / tempos / _FRAME
    usable = int(len(correlation) * 0.75)  # beyond, few onsets are left
    beats = [np.interp(count * lags, np.arange(usable), correlation[:usable], right=0.0) for count in range(1, 5)]
    usual = np.exp(-0.5 * (np.log2(tempos / _USUAL_TEMPO) / _OCTAVES) ** 2)
    scores = np.mean(beats, axis=0) * usual
    return float(tempos[int(np.argmax(scores))]) if scores.max() > 0 else None


def find_loop(notes: Sequence[Note]) -> tuple[float | None, float | None]:
    """Returns the seconds, 1 to 30, after which most notes come again at their pitch, and the share that does.

    Only notes so early that they could come again are counted, and loops of at most half the piece.
    """
    if len(notes) < _FEWEST:
        return None, None
    starts = np.array(sorted(note.start for note in notes))
    longest = min(_LOOPS[1], (starts[-1] - starts[0]) / 2)
    bins = int((longest + _LOOP_TOLERANCE) / _LOOP_BIN) + 1
    if longest <= _LOOPS[0]:
        return None, None
    counts = np.zeros(bins + 1)
    groups: dict[tuple[bool, int, int], list[float]] = defaultdict(list)
    for note in notes:
        groups[note.is_drum, note.program, note.pitch].append(note.start)
    for group in groups.values():
        _count_gaps(np.array(sorted(group)), longest + _LOOP_TOLERANCE, counts)
    reach = round(_LOOP_TOLERANCE / _LOOP_BIN)
    again = np.convolve(counts, np.ones(2 * reach + 1), mode="same")
    lags = np.arange(len(counts)) * _LOOP_BIN
    early = np.searchsorted(starts, starts[-1] - lags + _LOOP_TOLERANCE, side="right")
    shares = np.where((lags >= _LOOPS[0]) & (lags <= longest), np.minimum(again / np.maximum(early, 1), 1.0), 0.0)
    best = int(np.argmax(shares >= _AS_GOOD * shares.max()))
    peak = slice(best, best + 2 * reach + 1)  # `best` is its first flank
    if not counts[peak].sum():
        return None, float(shares[best])
    return float(np.average(lags[peak], weights=counts[peak])), float(shares[best])


def _count_gaps(starts: Floats, longest: float, counts: Floats) -> None:
    """Adds to `counts`, by bins of `_LOOP_BIN`, the times between any two of the starts, up to `longest`."""
    for step in range(1, len(starts)):
        gaps = starts[step:] - starts[:-step]
        near = gaps[gaps <= longest]
        if not len(near):
            return
        np.add.at(counts, np.round(near / _LOOP_BIN).astype(int).clip(max=len(counts) - 1), 1.0)


def _sounding(notes: Sequence[Note], seconds: float) -> NDArray[np.int64]:
    """Returns how many notes sound in each frame of a hundredth of a second."""
    changes = np.zeros(max(1, int(np.ceil(seconds / _FRAME - 1e-9))) + 1, np.int64)
    for note in notes:
        first = min(int(note.start / _FRAME + 1e-6), len(changes) - 1)
        changes[first] += 1
        changes[min(max(first + 1, round(note.end / _FRAME)), len(changes) - 1)] -= 1
    return np.cumsum(changes)[:-1]
