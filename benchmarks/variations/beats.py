"""Notes of the beats that a variation keeps: they are transcribed from it as from its source.

Of each bar one beat is kept in all codebooks, and the rest generated. Source, as the codec plays it, and variation are
transcribed alike; the notes that begin within a kept beat are compared by pitch and onset. The same is done for the
other beats: what is generated there should differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core import load_model
from jukebox_core.composer.styles import genre_of
from jukebox_core.evaluation.notes import TOLERANCE, match
from jukebox_core.families.vampnet.masks.config import BeatConfig, MaskConfig
from jukebox_core.families.vampnet.sampling.config import VampSampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.composer.album import Track
    from jukebox_core.families.mt3.api import MT3
    from jukebox_core.families.vampnet.api import VampNet
    from jukebox_core.families.vampnet.sampling.config import PassConfig
    from jukebox_core.notes.note import Note
    from jukebox_core.runtime.config import HardwareConfig

_SECONDS = 8.0  # of each song
_BEFORE = 0.06  # seconds before each beat that are kept, as attacks and transcribed onsets may be early
_EARLY, _LATE = 0.03, 0.06  # seconds by which the notes of a beat may begin early, and before whose end they must begin


def kept_beats(
    vampnet: VampNet,
    songs: Sequence[tuple[Track, NDArray[np.float32]]],
    hardware: HardwareConfig,
    coarse: PassConfig,
    c2f: PassConfig,
) -> dict[str, Any]:
    """Returns how many notes of kept beats, and of the others, are those of the source: the F-measure of all songs."""
    listener: MT3 = load_model("mini_mt3", hardware=hardware)
    counts = {"kept": [0.0, 0], "generated": [0.0, 0]}
    for number, (track, audio) in enumerate(songs):
        rate, piece = vampnet.config.sample_rate, audio[: int(_SECONDS * vampnet.config.sample_rate)]
        times, beat = first_beats(track, len(piece) / rate)
        beats = BeatConfig(times=times, before_seconds=_BEFORE, after_seconds=beat)
        codes = vampnet.encode(piece, rate=rate)
        mask = MaskConfig(period=0, upper_codebook_mask=None, beats=beats)
        how = VampSampling(seed=number, coarse=coarse, c2f=c2f)
        varied = vampnet.vamp(codes=codes, mask=mask, sampling=how).audio[0]
        heard = [listener.transcribe(each, rate=rate).notes for each in (vampnet.decode(codes), varied)]
        for name, within in (("kept", True), ("generated", False)):
            chosen = [[note for note in notes if _begins_in(note, times, beat) == within] for notes in heard]
            counts[name][0] += 2 * _common(*chosen)
            counts[name][1] += sum(map(len, chosen))
    return {
        "songs": len(songs),
        **{name: round(common / max(1, total), 3) for name, (common, total) in counts.items()},
        **{f"notes_{name}": int(total / 2) for name, (_, total) in counts.items()},
    }


def first_beats(track: Track, seconds: float) -> tuple[tuple[float, ...], float]:
    """Returns the times of the first beat of each bar that ends within so many seconds, and the length of a beat."""
    beat = 60 / track.compose().tempo
    bar = genre_of(track.genre).beats * beat
    return tuple(number * bar for number in range(int((seconds - beat) / bar) + 1)), beat


def _begins_in(note: Note, beats: Sequence[float], length: float) -> bool:
    return any(at - _EARLY <= note.start < at + length - _LATE for at in beats)


def _common(reference: Sequence[Note], estimate: Sequence[Note]) -> float:
    """Returns the number of notes that both have, drums among them."""
    found = 0.0
    for drums in (False, True):
        one, other = ([note for note in notes if note.is_drum == drums] for notes in (reference, estimate))
        found += match(one, other, offsets=False, tolerance=TOLERANCE).recall * len(one)
    return found
