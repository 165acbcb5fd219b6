"""Notes played by FluidSynth, with a soundfont of one sine."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.notes.note import Note
from jukebox_core.notes.notes import Notes
from jukebox_core.notes.soundfont import check_soundfont, play_soundfont
from tests.helpers.soundfonts import sine_soundfont

if TYPE_CHECKING:
    from pathlib import Path

RATE = 22050
NEEDED = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="the program fluidsynth is not installed")


@NEEDED
def test_a_note_sounds_when_and_as_high_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "sine.sf2").write_bytes(sine_soundfont())
    sound = play_soundfont(Notes.of([Note(0.5, 1.0, 69)]), check_soundfont(str(tmp_path / "sine.sf2")), 2.0, RATE)
    assert (len(sound), sound.dtype) == (2 * RATE, np.float32)
    assert np.abs(sound).max() == pytest.approx(0.9, abs=1e-3)
    assert np.abs(sound[: int(0.45 * RATE)]).max() < 0.01
    held = sound[int(0.6 * RATE) : int(0.9 * RATE)]
    spectrum = np.abs(np.fft.rfft(held * np.hanning(len(held))))
    assert spectrum.argmax() * RATE / len(held) == pytest.approx(440, abs=5)


@NEEDED
def test_no_notes_are_silence(tmp_path: Path) -> None:
    (tmp_path / "sine.sf2").write_bytes(sine_soundfont())
    assert not play_soundfont(Notes.of([]), tmp_path / "sine.sf2", 0.5, RATE).any()


def test_a_program_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/fluidsynth"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.raises(AudioError, match=r"cannot play .*sine\.sf2 \(broken\)"):
        play_soundfont(Notes.of([Note(0.0, 0.5, 69)]), tmp_path / "sine.sf2", 1.0, RATE)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no such file"), (b"text", "no soundfont"), (b"RIFF1234WAVE", "no soundfont")]
)
def test_what_is_no_soundfont_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "a.sf2").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        check_soundfont(str(tmp_path / "a.sf2"))


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sine.sf2").write_bytes(sine_soundfont())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="FluidSynth is not installed"):
        check_soundfont(str(tmp_path / "sine.sf2"))
