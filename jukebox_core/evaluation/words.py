"""How well the pitches in audio agree with those on which words are sung. Imports no torch.

Legend: T samples of time, S frames, P pitch classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jukebox_core.evaluation.sound import spectrogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_FFT, _WINDOW, _HOP = 8192, 2048, 512
_VOICE_HZ = (180.0, 560.0)  # fundamentals of the voice
_FLOOR = 1e-3  # relative to the loudest class and frame
_CLASSES = 12


class SungNote(NamedTuple):
    """A letter on its pitch."""

    start: float  # seconds
    end: float  # seconds
    pitch: int  # MIDI note; its octave does not count


def words_fit(samples_T: NDArray[np.float32], rate: int, notes: Sequence[SungNote]) -> float:
    """Returns by how much the pitches of sung notes are louder than the mean of all pitches, in nats.

    It is the mean over the notes that begin within the audio, in the transposition that fits best, since the words
    decide the steps of a scale and not its key. 0 without notes.
    """
    loud_SP = _class_levels(samples_T, rate)
    inside = [note for note in notes if note.end * rate < len(samples_T)]
    if not inside:
        return 0.0
    spans = [
        slice(int(n.start * rate / _HOP), max(int(n.start * rate / _HOP) + 1, int(n.end * rate / _HOP))) for n in inside
    ]
    levels_NP = np.stack([loud_SP[span].mean(axis=0) for span in spans])
    rows, pitches = np.arange(len(inside)), np.array([note.pitch for note in inside])
    return max(float(levels_NP[rows, (pitches + shift) % _CLASSES].mean()) for shift in range(_CLASSES))


def _class_levels(samples_T: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Returns the log magnitude of each pitch class in the range of the voice, relative to their mean, [S, P]."""
    magnitudes_SF = spectrogram(samples_T, _FFT, _HOP, _WINDOW)
    hertz_F = np.fft.rfftfreq(_FFT, 1 / rate)
    in_range = (hertz_F >= _VOICE_HZ[0]) & (hertz_F <= _VOICE_HZ[1])
    semitones = np.round(69 + 12 * np.log2(hertz_F[in_range] / 440)).astype(int)
    magnitudes_SP = np.stack(
        [magnitudes_SF[:, in_range][:, semitones % _CLASSES == each].max(axis=1) for each in range(_CLASSES)], axis=1
    )
    levels_SP = np.log(np.maximum(magnitudes_SP, max(float(magnitudes_SP.max()), 1e-9) * _FLOOR))
    return np.asarray(levels_SP - levels_SP.mean(axis=1, keepdims=True), np.float64)
