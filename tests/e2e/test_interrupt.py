"""Ctrl-C as a terminal sends it: to the command and all its child processes, including Prefect's server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [
    sys.executable,
    "-m",
    "pipelines.cli.main",
    "generate",
    "seconds=30",
    "hardware.engine=eager",
    "run.name=song",
]


@pytest.mark.slow
def test_an_interrupted_run_ends_soon_with_one_line_and_is_resumed(tmp_path: Path) -> None:
    for line in ("loading mini", "tokens of an interrupted window"):
        lines = interrupted(tmp_path, when=line)
        noise = [line for line in lines if any(word in line for word in ("Traceback", "Aborted", "Unable to connect"))]
        assert not noise
        assert lines[-1].startswith("jukebox: stopped as asked; all tokens drawn so far are stored")


def interrupted(folder: Path, when: str) -> list[str]:
    """The output of a command that is interrupted a few seconds after it printed `when`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "JUKEBOX_"))}
    with subprocess.Popen(
        COMMAND,
        cwd=folder,
        env=environment | {"HOME": str(folder)},
        start_new_session=True,  # a group of processes, as a shell makes one of each command
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            lines, began = [], None
            for line in process.stderr:
                lines.append(line)
                if when in line and began is None:
                    time.sleep(3)
                    began = time.monotonic()
                    os.killpg(process.pid, signal.SIGINT)
            assert began is not None
            assert process.wait() == 130
            assert time.monotonic() - began < 30
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return lines
