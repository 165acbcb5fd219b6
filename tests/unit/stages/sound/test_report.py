from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from jukebox_core.errors import RunError
from stages.sound.report import Report, Song, Timing, Track, clock, decibels, setting_groups, setting_rows, write_report


class Page(HTMLParser):
    """The tags of a page, and its text outside styles and scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._silent = False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._silent = tag in ("style", "script")

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def track(level: int, **changes) -> Track:
    return dataclasses.replace(Track(level=level, audio=f"l{level}.wav", seconds=6, peak=0.5, rms=0.1), **changes)


def song(index: int = 0, **changes) -> Song:
    made = Song(index=index, artist="Nina", genre="jazz", lyrics="la la", tracks=(track(2), track(1), track(0)))
    return dataclasses.replace(made, **changes)


def report(*songs: Song, **changes) -> Report:
    made = Report(title="a run", model="mini", trained=True, licence="free", settings={}, songs=songs)
    return dataclasses.replace(made, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for level in range(3):
        (tmp_path / f"l{level}.wav").touch()
    return tmp_path


def test_final_comes_first_and_levels_are_named(folder):
    page = Page(write_report(folder, report(song())))
    assert [audio["src"] for audio in page.all("audio")] == ["l0.wav", "l1.wav", "l2.wav"]
    heads = re.findall(r"(Bottom|Middle|Top) level\s+(final|draft)", page.text)
    assert heads == [("Bottom", "final"), ("Middle", "draft"), ("Top", "draft")]


def test_a_run_that_stopped_early_calls_nothing_final(folder):
    page = Page(write_report(folder, report(song(tracks=(track(2),)))))
    assert "Top level draft" in page.text
    assert "final" not in page.text


def test_a_song_without_sound_is_marked(folder):
    assert "No sound was rendered" in Page(write_report(folder, report(song(tracks=())))).text


@pytest.mark.parametrize("where", ["title", "model", "training_note", "licence", "lyrics", "artist", "genre", "note",
                                   "setting", "stage", "audio"])  # fmt: skip
def test_text_is_escaped(folder, where):
    evil = """</div></title></style><script>alert('1')</script>"'&amp;<img src=x onerror=alert(1)>"""
    shown = report(song())
    if where in ("title", "model", "training_note", "licence"):
        shown = dataclasses.replace(shown, **{where: evil})
    elif where in ("lyrics", "artist", "genre"):
        shown = report(song(**{where: evil}))
    elif where == "audio":
        evil = "<script>alert('&')< #1 100%?.wav"
        (folder / evil).touch()
        shown = report(song(tracks=(track(0, audio=evil),)))
    else:
        fields = {"note": {"notes": (evil,)}, "setting": {"settings": {evil: evil, "x": {evil: evil}}},
                  "stage": {"timings": (Timing(stage=evil, seconds=1),)}}  # fmt: skip
        shown = dataclasses.replace(shown, **fields[where])
    plain, page = Page(write_report(folder, report(song()))), Page(write_report(folder, shown))
    assert len(page.all("script")) == len(plain.all("script")) == 1
    assert len(page.all("img")) == 0
    assert evil in page.text


def test_lyrics_keep_their_lines_and_spaces(folder):
    lyrics = "\n\n  one\n\ttwo  \n\n\nthree & <four>\n"
    assert lyrics in Page(write_report(folder, report(song(lyrics=lyrics)))).text


def test_no_address_leaves_the_folder(folder):
    odd = "javascript:alert(1).wav"
    (folder / odd).touch()
    (folder / "a b#1.png").touch()
    tracks = (track(0, audio=odd, waveform="a b#1.png", spectrogram="a b#1.png"),)
    page = Page(write_report(folder, report(song(tracks=tracks), song(1))))
    addresses = [attrs[name] for _, attrs in page.tags for name in ("src", "href") if name in attrs]
    files = [address for address in addresses if not address.startswith("#") and address != "data:,"]
    assert len(files) == 2 * 4 + 2  # a player and a link for each of four tracks, two pictures
    for address in files:
        assert ":" not in address
        assert not address.startswith("/")
        assert (folder / unquote(address)).is_file()
    assert "http" not in (folder / "report.html").read_text("utf-8")


@pytest.mark.parametrize("path", ["/etc/passwd", "../l0.wav", "a\\b.wav"])
@pytest.mark.parametrize("name", ["audio", "waveform", "spectrogram"])
def test_a_path_outside_the_folder_is_refused(folder, path, name):
    with pytest.raises(RunError, match="not inside the report's folder"):
        write_report(folder, report(song(tracks=(track(0, **{name: path}),))))


def test_a_missing_file_is_refused_and_the_old_page_stays(folder):
    page = write_report(folder, report(song(), title="the old one"))
    with pytest.raises(RunError, match=r"'gone\.wav' is not in"):
        write_report(folder, report(song(tracks=(track(0, audio="gone.wav"),))))
    assert "the old one" in page.read_text("utf-8")
    assert sorted(path.name for path in folder.iterdir()) == ["l0.wav", "l1.wav", "l2.wav", "report.html"]


def test_a_level_given_twice_is_refused(folder):
    with pytest.raises(RunError, match=r"sample 3 has levels \[1, 1\]"):
        write_report(folder, report(song(3, tracks=(track(1), track(1)))))


def test_untrained_weights_are_marked_with_a_warning(folder):
    assert "never trained" in Page(write_report(folder, report(song(), trained=False))).text
    assert "never trained" not in Page(write_report(folder, report(song()))).text


def test_a_peak_beyond_full_scale_is_marked(folder):
    for peak, said in ((1.0, False), (1.5, True)):
        page = Page(write_report(folder, report(song(tracks=(track(0, peak=peak),)))))
        assert ("clipped" in page.text) is said


def test_timings_separate_reused_windows_from_sampled_ones(folder):
    timings = (
        Timing(stage="weights", seconds=0.25),
        Timing(stage="sample", level=2, seconds=80, tokens=100, windows_sampled=3, windows_reused=0),
        Timing(stage="upsample", level=0, seconds=0, tokens=0, windows_sampled=0, windows_reused=1234),
    )
    text = Page(write_report(folder, report(song(), timings=timings))).text
    shown = " ".join(text.split()).replace("\N{EN DASH}", "none")
    assert " weights 0.2 s none none none none " in shown
    assert " sample, top level 1:20 100 1.2 3 0 " in shown
    assert " upsample, bottom level 0.0 s 0 none 0 1,234" in shown


def test_settings_are_named_as_on_the_command_line():
    settings = {"seed": 0, "sampling": {"level_0": {"top_k": None, "on": True}, "empty": {}}, "tags": ["a", 1]}
    assert setting_groups(settings) == [
        ("run", [("seed", "0"), ("tags", '["a", 1]')]),
        ("sampling", [("level_0.top_k", "null"), ("level_0.on", "true"), ("empty", "{}")]),
    ]
    assert setting_rows({"from": ["https://me:word@host/x?sig=1", "a@b"], "to": "s3://key:word@bucket"}) == [
        ("from", '["https://host/x", "a@b"]'),
        ("to", "s3://bucket"),
    ]
    assert setting_rows({"path": Path("/x"), "name": "é"}) == [("path", '"/x"'), ("name", "é")]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0 s"), (5.96, "6.0 s"), (59.94, "59.9 s"), (59.96, "1:00"), (65, "1:05"), (3599.6, "1:00:00"),
     (3723, "1:02:03")],
)  # fmt: skip
def test_clock(seconds, shown):
    assert clock(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "-∞ dB"), (1, "+0.0 dB"), (0.9999, "+0.0 dB"), (0.5, "-6.0 dB"), (2, "+6.0 dB")]
)
def test_decibels(value, shown):
    assert decibels(value) == shown.replace("-", "\N{MINUS SIGN}")
