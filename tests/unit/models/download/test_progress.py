from __future__ import annotations

import io
import re
import sys

import pytest

from jukebox_core.models.download.progress import LINE_SECONDS, QUIET_SECONDS, Meter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_where_there_is_no_terminal() -> None:
    clock, stream = Clock(), io.StringIO()
    meter = Meter("a.bin", stream=stream, clock=clock)
    for second in range(61):
        clock.now = 100.0 + second
        meter(second * 10_000_000, 1_000_000_000)
    meter.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 60 // LINE_SECONDS + 1
    assert lines[1] == "a.bin: 16% 160 MB of 1.00 GB, 10.0 MB/s, 1:24 left"
    assert lines[-1] == "a.bin: 600 MB in 1:00, 10.0 MB/s"
    assert "\r" not in stream.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    return stream


def drawn(stream: io.StringIO) -> list[str]:
    """The lines on a terminal, one for each drawing of the bar, without colours."""
    return [re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", line) for line in re.split(r"[\r\n]+", stream.getvalue())]


def test_a_bar_on_a_terminal(terminal: io.StringIO) -> None:
    clock = Clock()
    with Meter("a.bin", stream=terminal, clock=clock) as meter:
        for done in range(0, 60_000_000, 10_000_000):
            meter(done, 100_000_000)
            clock.now += 2
    last = next(line for line in reversed(drawn(terminal)) if "%" in line)
    assert last.startswith("a.bin: \u2501\u2501")
    for words in (" 50% ", "50.0/100.0 MB", "5.0 MB/s", "0:00:10"):
        assert words in last
    assert drawn(terminal)[-2:] == ["a.bin: 50.0 MB in 0:10, 5.0 MB/s", ""]


def test_without_rich_a_terminal_gets_plain_lines(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    clock = Clock()
    with Meter("a.bin", stream=terminal, clock=clock) as meter:
        meter.waiting()
        meter(0, 100)
        clock.now += 10
        meter(50, 100)
    assert terminal.getvalue().splitlines() == [
        "a.bin: another process is fetching it; waiting for that",
        "a.bin: 50% 50 B of 100 B, 5 B/s, 0:10 left",
        "a.bin: 50 B in 0:10, 5 B/s",
    ]


def test_an_unknown_size_shows_what_came_and_a_moment_shows_nothing() -> None:
    clock, stream = Clock(), io.StringIO()
    meter = Meter("a", stream=stream, clock=clock)
    meter.close()
    meter(500, None)
    meter.close()
    assert stream.getvalue() == ""
    clock.now += 2 * QUIET_SECONDS
    meter(1500, None)
    assert stream.getvalue().startswith("a: 1.5 kB, ")
