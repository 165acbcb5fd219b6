from __future__ import annotations

import io

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


def test_a_bar_on_a_terminal() -> None:
    clock, stream = Clock(), io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    meter = Meter("a.bin", stream=stream, clock=clock)
    meter(0, 100)
    clock.now += 10
    meter(50, 100)
    meter.waiting()
    meter.close()
    shown = stream.getvalue().split("\r")
    assert shown[1].startswith("a.bin: [############............] 50% 50 B of 100 B, 5 B/s, 0:10 left")
    assert "another process is fetching it" in shown[2]
    assert stream.getvalue().endswith("\n")


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
