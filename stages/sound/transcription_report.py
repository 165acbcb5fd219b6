"""The page of a transcription: its notes over the spectrogram, to look at, and to hear beside the recording.

One file with everything in it, which needs neither a server nor a network. Recordings longer than `LONGEST` seconds are
shown up to there, so that the page stays of a size that browsers open, and its making within bounded memory.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import soundfile

from jukebox_core.audio.files import audio_seconds, read_audio
from jukebox_core.audio.pitch_picture import pitch_png
from jukebox_core.base.atomic import atomic_write
from jukebox_core.composer.playback import play
from jukebox_core.notes.general_midi import PROGRAMS, drum_name, pitch_name
from jukebox_core.notes.notes import Notes
from jukebox_core.notes.soundfont import play_soundfont
from stages.sound.report import clock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.notes.note import Note

LONGEST = 600.0  # seconds that a page shows
RATE = 22_050  # Hz, of its sound
_COLUMNS = 24  # of the spectrogram, per second
_LOWEST, _HIGHEST = 33, 84  # pitches that are shown in any case: A1 to C6
LISTED = 2000  # notes in the table


@dataclass(frozen=True, kw_only=True, slots=True)
class Instrument:
    """The notes of one program, or the drums."""

    number: int  # place among the instruments, from 0
    name: str
    program: int | None  # None: drums
    notes: Sequence[Note]

    @property
    def lowest(self) -> str:
        """The name of the lowest note; of drums, that of the commonest key."""
        if self.program is None:
            keys = [note.pitch for note in self.notes]
            return drum_name(max(sorted(set(keys)), key=keys.count))
        return pitch_name(min(note.pitch for note in self.notes))

    @property
    def highest(self) -> str:
        """The name of the highest note."""
        return pitch_name(max(note.pitch for note in self.notes))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Page:
    """What the template shows."""

    title: str
    model: str
    notes: Notes
    total: float  # seconds of the recording
    seconds: float  # that are shown
    low: int
    high: int
    instruments: Sequence[Instrument]
    drum_keys: Sequence[int]  # a row each, highest first
    listed: Sequence[Note]  # in the table
    recording: str  # addresses with the data in them
    rendering: str
    spectrogram: str


def write_transcription_report(
    path: Path, audio: Path, notes: Notes, *, model: str, soundfont: Path | None = None
) -> Path:
    """Writes the page of a transcription, atomically; returns its path.

    Args:
        path: of the page.
        audio: the recording.
        notes: its notes.
        model: the name of the model that found them.
        soundfont: played by FluidSynth; None: the composer's instruments.

    Raises:
        AudioError: the recording cannot be read, or the soundfont not be played.
        DiskError: the page cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stages.sound"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(clock=clock, pitch=pitch_name, drum=drum_name)
    html = environment.get_template("transcription.html.j2").render(page=_page(audio, notes, model, soundfont))
    with atomic_write(path) as file:
        file.write(html.encode("utf-8"))
    return path


def instruments(notes: Sequence[Note]) -> list[Instrument]:
    """Returns the instruments that play, by program, the drums last."""
    programs = sorted({note.program for note in notes if not note.is_drum})
    parts: list[tuple[str, int | None, list[Note]]] = [
        (PROGRAMS[program], program, [note for note in notes if not note.is_drum and note.program == program])
        for program in programs
    ]
    drums = [note for note in notes if note.is_drum]
    if drums:
        parts.append(("Drums", None, drums))
    return [
        Instrument(number=number, name=name, program=program, notes=of_it)
        for number, (name, program, of_it) in enumerate(parts)
    ]


def _page(audio: Path, notes: Notes, model: str, soundfont: Path | None) -> _Page:
    total = audio_seconds(audio)
    samples_T = read_audio(audio, rate=RATE, seconds=LONGEST if total > LONGEST else None)
    seconds = len(samples_T) / RATE
    shown = [note for note in notes if note.start < seconds]
    pitches = [note.pitch for note in shown if not note.is_drum]
    low, high = min([_LOWEST, *(pitch - 2 for pitch in pitches)]), max([_HIGHEST, *(pitch + 2 for pitch in pitches)])
    low, high = max(0, low), min(127, high)
    keys = sorted({note.pitch for note in shown if note.is_drum}, reverse=True)
    return _Page(
        title=audio.name,
        model=model,
        notes=notes,
        total=total,
        seconds=seconds,
        low=low,
        high=high,
        instruments=instruments(shown),
        drum_keys=keys,
        listed=shown[:LISTED],
        recording=_sound(samples_T),
        rendering=_sound(
            play(shown, seconds, RATE)
            if soundfont is None
            else play_soundfont(Notes.of(shown), soundfont, seconds, RATE)
        ),
        spectrogram=_data("image/png", pitch_png(samples_T, RATE, max(1, round(seconds * _COLUMNS)), low, high)),
    )


def _sound(samples_T: NDArray[np.float32]) -> str:
    """Returns mono sound as an address that holds it, as mp3."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples_T.clip(-1, 1), RATE, format="MP3", subtype="MPEG_LAYER_III")
    return _data("audio/mpeg", buffer.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
