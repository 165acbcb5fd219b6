"""The page of a transcription in a real browser: it plays, follows, switches and hides, and sends no request."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from jukebox_core.audio.files import write_audio
from jukebox_core.composer.render import render
from jukebox_core.composer.score import compose
from jukebox_core.notes.note import Note
from jukebox_core.notes.notes import Notes
from stages.sound.transcription_report import write_transcription_report
from tests.helpers.browser import browser, needs_browser
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.helpers.browser import Session

pytestmark = [pytest.mark.slow, needs_browser]

SCREENSHOTS = ROOT / "outputs" / "screenshots"
PROGRAMS, DRUMS = {"melody": 11, "chords": 11, "bass": 33}, {"kick": 36, "snare": 38, "hat": 42}
LATER = "new Promise(done => setTimeout(done, 600))"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a composed song and its notes, alone in a folder that was moved."""
    folder = tmp_path_factory.mktemp("made")
    score = compose(5, artist="drums and bass", genre="dance", seconds=12, sung=False)
    write_audio(folder / "song.wav", render(score, 22_050), 22_050)
    notes = [Note(n.start, n.start + n.length, n.pitch, 100, PROGRAMS[n.part]) for n in score.notes]
    notes += [Note(h.start, h.start + 0.01, DRUMS[h.drum], 100, 0, is_drum=True) for h in score.hits]
    made = write_transcription_report(folder / "song.html", folder / "song.wav", Notes.of(notes), model="mini")
    return shutil.move(made, tmp_path_factory.mktemp("moved") / "notes of #1.html")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_recording_and_notes_play_in_turns_at_the_same_place(session: Session, page: Path) -> None:
    session.open(page, 1280, 1000)
    lengths = session.run(
        """Promise.all(players.map(p => p.readyState || new Promise(r => p.addEventListener("loadedmetadata", r))))
        .then(() => players.map(p => p.duration))"""
    )
    assert lengths == pytest.approx([lengths[0]] * 2, abs=0.01)
    assert 11 < lengths[0] < 13
    session.run(f"players[0].currentTime = 4; players[0].play().then(() => {LATER})")
    before = session.run(
        "[current.id, players[0].paused, players[1].paused, by('head').offsetLeft, by('state').textContent]"
    )
    assert before[:3] == ["recording", False, True]
    assert before[3] > 0
    assert before[4] == "Playing the recording"
    session.run("by('switch').focus()")
    for kind in ("keyDown", "keyUp"):  # by keyboard
        session.call("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", text=" ", windowsVirtualKeyCode=32)
    session.run(LATER)
    after = session.run("[current.id, players[0].paused, players[1].paused, players[1].currentTime]")
    assert after[:3] == ["rendering", True, False]
    assert after[3] >= 4
    session.run("players.forEach(each => each.pause())")


def test_a_click_seeks_and_instruments_can_be_hidden(session: Session, page: Path) -> None:
    session.open(page, 1280, 1000)
    box = session.run("(b => [b.left, b.top, b.width])(by('inner').getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        session.call(
            "Input.dispatchMouseEvent", type=kind, x=box[0] + box[2] / 2, y=box[1] + 90, button="left", clickCount=1
        )
    assert session.run("current.currentTime / seconds") == pytest.approx(0.5, abs=0.01)
    shown = "getComputedStyle(document.querySelector('.notes .i{}')).display"
    session.run("document.querySelector('[data-instrument=\"1\"]').click()")
    assert [session.run(shown.format(number)) for number in (0, 1, 2)] == ["inline", "none", "inline"]


def test_it_is_read_aloud_and_reached_by_keyboard(session: Session, page: Path) -> None:
    session.open(page, 1280, 1000)
    nodes = session.call("Accessibility.getFullAXTree")["nodes"]
    found = {
        (node.get("role", {}).get("value"), node.get("name", {}).get("value")) for node in nodes if not node["ignored"]
    }
    assert {
        ("region", "Piano roll"), ("button", "Switch to the other, at the same place"), ("checkbox", "Vibraphone"),
        ("heading", "Notes of song.wav"), ("Audio", "Recording"), ("Audio", "Its notes, synthesised"), ("table", ""),
    } <= found  # fmt: skip
    assert any(role == "image" and "over the spectrogram" in name for role, name in found)
    session.run("by('time').focus()")
    assert session.run("document.activeElement.id") == "time"


def test_no_request_leaves_the_page(session: Session, page: Path) -> None:
    session.open(page, 1280, 1000)
    assert session.run("fetch('https://example.org/').then(() => 'sent', () => 'refused')") == "refused"
    asked = {address.partition(":")[0] for address in session.requests if "example.org" not in address}
    assert asked <= {"file", "data"}


@pytest.mark.parametrize(
    ("name", "width", "dark"), [("light", 1280, False), ("dark", 1280, True), ("phone", 400, False)]
)
def test_screenshots_show_notes_over_the_spectrogram(
    session: Session, page: Path, tmp_path: Path, name: str, width: int, dark: bool
) -> None:
    session.open(page, width, 1100, dark=dark)
    assert session.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    shot = session.screenshot(tmp_path / f"transcription-{name}.png")
    if SCREENSHOTS.is_dir():
        shutil.copy(shot, SCREENSHOTS)
    with Image.open(shot) as picture:
        colours = picture.convert("RGB").getcolors(maxcolors=picture.width * picture.height)
    assert sum(max(colours)[1]) < 200 if dark else sum(max(colours)[1]) > 600
    count = {colour: sum(n for n, c in colours if c == colour) for colour in ((0x7F, 0xD4, 0xFF), (0xFF, 0xD1, 0x66))}
    assert min(count.values()) > 200, "the notes' colours are missing"
    hot = sum(n for n, (r, g, b) in colours if r > 120 and r > 1.4 * g and b > 50)
    assert hot > 0.01 * picture.width * picture.height, "the spectrogram is missing"
