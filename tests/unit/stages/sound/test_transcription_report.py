"""The page of a transcription: self-contained, escaped, with the notes in the picture and in words."""

from __future__ import annotations

import base64
import io
import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from PIL import Image

from jukebox_core.audio.files import write_audio
from jukebox_core.errors import AudioError
from jukebox_core.notes.note import Note
from jukebox_core.notes.notes import Notes
from stages.sound import transcription_report
from stages.sound.transcription_report import instruments, write_transcription_report
from tests.helpers.soundfonts import sine_soundfont

if TYPE_CHECKING:
    from pathlib import Path

NOTES = Notes.of(
    [Note(0.1, 0.5, 61, 100, 33), Note(0.2, 2.9, 20), Note(0.3, 0.31, 42, 90, 0, is_drum=True)],
    seconds=1.0,
    invalid_events=3,
    truncated_segments=1,
)


def page_of(folder: Path, notes: Notes, name: str = "a.wav", seconds: float = 1.0) -> str:
    write_audio(folder / name, np.random.default_rng(1).normal(0, 0.1, int(16_000 * seconds)), 16_000, "wav")
    return write_transcription_report(folder / "a.html", folder / name, notes, model="mini").read_text()


def contents(page: str, kind: str) -> list[bytes]:
    return [base64.b64decode(found) for found in re.findall(rf'src="data:{kind};base64,([^"]+)"', page)]


def test_everything_is_in_the_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, NOTES)
    assert set(re.findall(r'(?:src|href)="([a-z]+:)', page)) == {"data:"}
    assert "default-src 'none'" in page
    recording, rendering = (soundfile.read(io.BytesIO(each)) for each in contents(page, "audio/mpeg"))
    assert recording[1] == rendering[1] == transcription_report.RATE
    assert abs(len(recording[0]) - len(rendering[0])) <= 1
    assert np.abs(rendering[0]).max() > 0.05
    [picture] = contents(page, "image/png")
    with Image.open(io.BytesIO(picture)) as opened:
        assert opened.size == (24, 3 * (84 - 18 + 1))  # from the lowest note's pitch less two


@pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="the program fluidsynth is not installed")
def test_a_soundfont_plays_the_notes_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "sine.sf2").write_bytes(sine_soundfont())
    own = contents(page_of(tmp_path, NOTES), "audio/mpeg")
    path = tmp_path / "b.html"
    write_transcription_report(path, tmp_path / "a.wav", NOTES, model="mini", soundfont=tmp_path / "sine.sf2")
    other = contents(path.read_text(), "audio/mpeg")
    assert own[0] == other[0]
    sound, _ = soundfile.read(io.BytesIO(other[1]))
    spectrum = np.abs(np.fft.rfft(sound))
    loudest = spectrum.argmax() / len(sound) * transcription_report.RATE
    assert loudest == pytest.approx(26.0, abs=1.5)  # Hz, of the longest note


def test_notes_are_in_the_picture_and_in_words(tmp_path: Path) -> None:
    page = page_of(tmp_path, NOTES)
    assert re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="1">', page) == [
        ("20.0", "64", "80.0"),  # a note beyond the end of the recording ends there
        ("10.0", "23", "40.0"),
    ]
    assert "C sharp 4, Electric Bass (finger), 0.10 to 0.50 s" in page
    assert page.count("Closed Hi-Hat") >= 3
    assert "3 invalid and 0 dropped events" in re.sub(r"\s+", " ", page)
    assert "In a truncated segment" in page
    assert [each.name for each in instruments(NOTES)] == ["Acoustic Grand Piano", "Electric Bass (finger)", "Drums"]


def test_names_are_text_and_no_markup(tmp_path: Path) -> None:
    page = page_of(tmp_path, NOTES, "<img src=x onerror=alert(1)>.wav")
    assert "<img src=x" not in page
    assert "Notes of &lt;img src=x" in page


@pytest.mark.parametrize("seconds", [0.01, 0.5])
def test_a_recording_without_notes_has_a_page(tmp_path: Path, seconds: float) -> None:
    page = page_of(tmp_path, Notes(seconds=seconds), seconds=seconds)
    assert "No notes were found." in page


def test_a_long_recording_is_shown_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcription_report, "LONGEST", 2.0)
    page = page_of(tmp_path, Notes.of([Note(1, 2, 60), Note(3, 4, 60)], seconds=5.0), seconds=5.0)
    assert "shows the first 2.0 s" in page
    assert page.count("<rect") == 1
    with pytest.raises(AudioError, match=r"none\.wav"):
        write_transcription_report(tmp_path / "b.html", tmp_path / "none.wav", NOTES, model="mini")
    assert not (tmp_path / "b.html").exists()
