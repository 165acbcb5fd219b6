"""The report in a real browser with words in time: marked while the music plays, sought by mouse and keyboard."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from PIL import Image

from jukebox_core.alignment.export import TimedText
from jukebox_core.alignment.times import Timed, word_spans
from stages.sound.report import Report, Song, Track, write_report
from tests.helpers.browser import Session, browser, needs_browser

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, needs_browser]

RATE, SECONDS = 8000, 8.0
LYRICS = "Hang a lantern by the gate,\n  the road is <long>, the hour late.\nSing the river, sing the rain"
LONG = "\n".join(f"line {number} of a long song" for number in range(1, 101))
LIGHT, DARK = (0xA3, 0x45, 0x2A), (0xF6, 0xB4, 0x8F)  # --mark of the page
SETUP = """
globalThis.song = document.querySelector("#sample-1");
globalThis.other = document.querySelector("#sample-0");
globalThis.words = [...song.querySelectorAll(".word")];
globalThis.players = [...song.querySelectorAll("audio")];
globalThis.status = song.querySelector("[role=status]");
globalThis.marked = within => [...within.querySelectorAll("[aria-current=true]")].map(e => e.textContent);
globalThis.event = (target, name) => new Promise(done => target.addEventListener(name, done, { once: true }));
globalThis.seek = async (player, seconds) => {
  if (player.readyState < 1) { player.load(); await event(player, "loadedmetadata"); }
  const done = event(player, "seeked");
  player.currentTime = seconds;
  await done;
  return marked(song);
};
globalThis.press = key => {
  const pressed = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
  document.activeElement.dispatchEvent(pressed);
  return words.indexOf(document.activeElement);
};
"""
PLAYED = """(async () => {
  players[0].currentTime = 0;
  const playing = event(players[0], "playing"), passed = new Set();
  players[0].play();
  await playing;
  while (passed.size < 3 && players[0].currentTime < 3) {
    marked(song).forEach(each => passed.add(each));
    await new Promise(requestAnimationFrame);
  }
  const spoken = song.querySelector("[role=status]").textContent, paused = event(players[0], "pause");
  players[0].pause();
  await paused;
  return [[...passed], spoken];
})()"""
STATUS = "song.querySelector('[role=status]').textContent"


def timed(lyrics: str, step: float = 0.3) -> TimedText:
    """The text as a model reads it, with a word each 0.3 s from 0.3 s on; the last two are not reached."""
    text = lyrics.replace("<", "").replace(">", "")
    spans = word_spans(text)[:-2]
    words = [
        Timed(text[first:stop], first, stop, step * at + step, step * at + 0.5, estimated=at == 4)
        for at, (first, stop) in enumerate(spans)
    ]
    return TimedText(text, tuple(words))


TIMES = (1.25, 2.8)  # in the fourth and in the ninth word
LAST = len(timed(LYRICS).words)
OVER = 0.3 * LAST + 1.6  # more than a second after the end of the last word


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two samples: one with many words, one with two levels; its folder was moved."""
    made = tmp_path_factory.mktemp("made") / "run"
    (made / "audio").mkdir(parents=True)
    songs = []
    for index in (0, 1):
        tracks = []
        for level in (0, 1)[: 1 + index]:
            audio = f"audio/sample_{index}_{level}.wav"
            samples = 0.1 * np.sin(np.arange(int(SECONDS * RATE)) * (0.1 + 0.1 * level))
            soundfile.write(made / audio, samples.astype(np.float32), RATE, subtype="PCM_16")
            tracks.append(Track(level=level, audio=audio, seconds=SECONDS, peak=0.1, rms=0.07))
        lyrics, step = (LYRICS, 0.3) if index else (LONG, 0.01)
        words = timed(lyrics, step)
        songs.append(
            Song(index=index, artist="Nina", genre="folk", lyrics=lyrics, tracks=tuple(tracks), words=words)
        )  # fmt: skip
    write_report(
        made,
        Report(title="sung", model="mini", trained=True, licence="free", settings={}, songs=tuple(songs)),
    )
    return Path(shutil.move(made, tmp_path_factory.mktemp("moved") / "run of #1")) / "report.html"


@pytest.fixture(scope="module")
def session(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


def opened(session: Session, page: Path, *, dark: bool = False) -> Session:
    session.open(page, 900, 1400, dark=dark)
    session.run(SETUP)
    return session


def test_words_are_marked_in_time(session: Session, page: Path) -> None:
    run = opened(session, page).run
    assert run("song.querySelector('.sung').textContent") == LYRICS  # the user's own, whatever the model can read
    assert [run(f"seek(players[0], {seconds})") for seconds in TIMES] == [["by"], ["is"]]
    assert run(f"seek(players[0], {OVER})") == []
    assert run(f"seek(players[1], {TIMES[0]})") == ["by"]  # the player of another level
    assert run("marked(other)") == []
    assert run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert len(session.requests) >= 4  # the page and its players
    elsewhere = [each for each in session.requests if not each.startswith((page.parent.as_uri() + "/", "data:"))]
    assert elsewhere == []


def test_playing_marks_word_after_word_and_says_nothing(session: Session, page: Path) -> None:
    run = opened(session, page).run
    passed, spoken = run(PLAYED)
    assert passed[:3] == ["Hang", "a", "lantern"]
    assert spoken == ""
    assert run(STATUS).startswith("Paused at ")
    assert run("marked(other)") == []


def test_words_are_sought_by_mouse_and_keyboard(session: Session, page: Path) -> None:
    run = opened(session, page).run
    assert run("words.filter(e => e.tabIndex === 0).length") == 1  # one stop for the tab key
    assert run(f"seek(players[1], {OVER})") == []
    run("words[3].focus()")
    keys = ["ArrowRight", "ArrowLeft", "ArrowUp", "End", "ArrowDown", "Home", "x"]
    assert [run(f"press('{key}')") for key in keys] == [4, 3, 2, LAST - 1, LAST - 1, 0, 0]
    assert run("(async () => { const done = event(players[1], 'seeked'); words[5].click(); await done; })()") is None
    assert run("marked(song)") == ["gate,"]
    assert run("[players[1].currentTime, players[0].currentTime, players[1].paused]") == [pytest.approx(1.8), 0, True]
    assert run(STATUS) == "Moved to 0:01.8: gate,"
    assert run("words.findIndex(e => e.tabIndex === 0)") == 5
    # A real key on the focused button is a click.
    run("words[8].focus()")
    for kind in ("keyDown", "keyUp"):
        session.call(
            "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
        )
    run("players[1].seeking ? event(players[1], 'seeked') : null")
    assert run("marked(song)") == ["is"]


def test_the_word_that_is_sung_stays_in_view_and_the_page_stays(session: Session, page: Path) -> None:
    run = opened(session, page).run
    boxes = "[other.querySelector('.sung'), other.querySelector('[aria-current]')].map(e => e.getBoundingClientRect())"
    for seconds, place in ((4.0, 399), (0.025, 1)):  # far down, and at the top again
        run(f"seek(other.querySelector('audio'), {seconds + 0.001})")
        assert run("[...other.querySelectorAll('.word')].findIndex(e => e.hasAttribute('aria-current'))") == place
        (top, bottom), (upper, lower) = run(f"{boxes}.map(box => [box.top, box.bottom])")
        assert top <= upper < lower <= bottom < top + 600
        assert run("scrollY") == 0


@pytest.mark.parametrize(
    ("at", "word", "dark", "colour"), [(TIMES[0], "by", False, LIGHT), (TIMES[1], "is", True, DARK)]
)
def test_a_screenshot_shows_the_word_of_its_time(
    session: Session, page: Path, tmp_path: Path, at: float, word: str, dark: bool, colour: tuple[int, int, int]
) -> None:
    opened(session, page, dark=dark).run(f"seek(players[0], {at})")
    boxes = session.run(
        "words.map(e => { const b = e.getBoundingClientRect();"
        " return [e.textContent, b.left, b.top + scrollY, b.right, b.bottom + scrollY]; })"
    )
    with Image.open(session.screenshot(tmp_path / "shot.png")) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    near = np.abs(pixels - colour).sum(axis=-1) < 12
    shares = [
        (text, near[int(top) + 2 : int(bottom) - 2, int(left) + 2 : int(right) - 2].mean())
        for text, left, top, right, bottom in boxes
    ]
    assert [text for text, share in shares if share > 0.4] == [word], shares
