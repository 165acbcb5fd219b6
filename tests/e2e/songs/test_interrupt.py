"""Signals as terminals and batch systems send them: to the command and all its child processes, at any moment."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.helpers.patience import patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

pytestmark = pytest.mark.slow

COMMAND = [
    sys.executable,
    "-m",
    "pipelines.cli.main",
    "generate",
    "seconds=30",
    "hardware.engine=eager",
    "storage.flush_tokens=16",
    "run.name=song",
]
SAMPLING, RESUMED = "loading mini", "tokens of an interrupted window"
STARTING = "run song in"  # Prefect's server is started next, and sampling begins
ENDS = 30.0  # seconds, on a busy machine


def test_an_interrupted_run_ends_soon_with_one_line_and_is_resumed(tmp_path: Path) -> None:
    for line in (SAMPLING, RESUMED):
        check_stored(interrupted(tmp_path, signal.SIGINT, when=line))


def test_a_batch_system_that_stops_all_processes_loses_no_token(tmp_path: Path) -> None:
    """SIGTERM to the group, twice, as `timeout` and batch systems send it."""
    check_stored(interrupted(tmp_path, signal.SIGTERM, when=SAMPLING))
    assert status(tmp_path) == "stopped"
    check_gone(tmp_path)


def test_a_run_that_is_stopped_while_its_server_starts_is_recorded_as_stopped(tmp_path: Path) -> None:
    lines = interrupted(tmp_path, signal.SIGTERM, when=STARTING, after=0.3)
    assert not noise(lines)
    said = ("interrupted;", "stopped as asked; what was made so far is stored:")  # before the flow begins, or in it
    assert lines[-1] in [f"jukebox: {each} the same command continues from the stored tokens\n" for each in said]
    assert status(tmp_path) == "stopped"
    check_gone(tmp_path)


@pytest.mark.endurance
def test_a_closed_terminal_loses_no_token(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    seen = b""
    with subprocess.Popen(
        COMMAND, cwd=tmp_path, env=environment(tmp_path), stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=control_terminal,
    ) as process:  # fmt: skip
        os.close(theirs)
        while SAMPLING.encode() not in seen:
            seen += os.read(ours, 4096)
        time.sleep(3)
        began = time.monotonic()
        os.close(ours)
        assert process.wait(ENDS) == 130
        assert time.monotonic() - began < ENDS
    assert status(tmp_path) == "stopped"
    check_gone(tmp_path)
    check_stored(interrupted(tmp_path, signal.SIGINT, when=RESUMED))


def interrupted(folder: Path, number: signal.Signals, when: str, after: float = 3.0) -> list[str]:
    """The output of a command whose group receives a signal `after` seconds after it printed `when`."""
    with subprocess.Popen(
        COMMAND,
        cwd=folder,
        env=environment(folder),
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
                    if when == SAMPLING:  # a busy machine takes a while until there is something to resume
                        wait_until(lambda: any((folder / "outputs/.store").rglob("*.part.safetensors")))
                    time.sleep(after)
                    began = time.monotonic()
                    os.killpg(process.pid, number)
                    if number != signal.SIGINT:
                        os.killpg(process.pid, number)
            assert began is not None, lines
            assert process.wait() == 130
            assert time.monotonic() - began < ENDS
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return lines


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "JUKEBOX_"))}
    return kept | {"HOME": str(folder)}


def control_terminal() -> None:
    """Makes the terminal that is stdin the one of this session, and SIGHUP what it is without nohup."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def noise(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if any(word in line for word in ("Traceback", "Aborted", "Unable to connect"))]


def check_stored(lines: list[str]) -> None:
    assert not noise(lines)
    assert lines[-1].startswith("jukebox: stopped as asked; what was made so far is stored: ")


def status(folder: Path) -> str:
    found: str = json.loads((folder / "outputs" / "song" / "manifest.json").read_text())["status"]
    return found


def check_gone(folder: Path) -> None:
    """No process of the command is left, such as Prefect's server."""
    wait_until(
        lambda: not [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]
    )


def wait_until(what: Callable[[], bool]) -> None:
    until = time.monotonic() + patience(ENDS)
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)
