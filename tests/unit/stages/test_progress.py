"""Lines of progress: windows for the log file, levels for the terminal too."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from jukebox_core.tokens.plan import Window
from pipelines.console import run_log
from stages.progress import Meter, peak_memory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from jukebox_core.tokens.graph import Node


@dataclass(frozen=True)
class Made:
    level: int
    window: Window
    sample: int = 0


def nodes(level: int, start: int) -> Sequence[Node]:
    return cast("Any", [Made(level, Window(start, start, start + 8))])


def test_a_terminal_has_a_line_a_level_and_the_log_the_windows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = Meter(left={2: 16, 1: 8})
    with run_log(tmp_path / "run.log"):
        for level, start in ((2, 0), (2, 8), (1, 0)):
            meter.advance(level, 8, meter.start(level))
            meter.window_done(nodes(level, start), 0.5)
        logging.getLogger("jukebox").info("finished")
    lines = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert [line[:18] for line in lines] == ["level 2 is done: 1", "level 1 is done: 8", "finished"]
    logged = (tmp_path / "run.log").read_text()
    assert logged.count("  window ") == 3
    assert logged.count("is done") == 2


def test_the_peak_of_a_process_is_its_own_not_that_of_the_one_that_started_it() -> None:
    held = bytes(range(256)) * (2**21)  # 512 MiB
    inner = "from stages.progress import peak_memory; print(peak_memory())"
    made = subprocess.run([sys.executable, "-c", inner], check=True, capture_output=True, text=True)
    assert peak_memory() > len(held)
    assert 2**20 < int(made.stdout) < len(held)
