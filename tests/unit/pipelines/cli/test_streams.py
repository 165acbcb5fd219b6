"""Output of the program: any text can be printed, and a reader that went away is no error."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pipelines import console, exit_status
from pipelines.cli import main as cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def ending(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> int:
    """The exit status of a program whose work is `work`."""
    monkeypatch.setattr(cli, "dispatch", lambda _: work())
    return cli.main(["anything"])


def raising(error: Exception) -> Callable[[], object]:
    def work() -> object:
        raise error

    return work


def program(*arguments: str, out: int | None = None, err: int | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipelines.cli.main", *arguments]
    return subprocess.Popen(command, stdout=out or subprocess.PIPE, stderr=err or subprocess.PIPE)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], pytest.param(["models", "list"], marks=pytest.mark.slow)], ids=" ".join
)
def test_a_closed_pipe_ends_the_program_quietly(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with program(*arguments, out=writing) as process:
        os.close(writing)
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == exit_status.PIPE_CLOSED


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["generate", "--help"], ["generate", "--cfg", "job"], ["runs", "list"]])
def test_the_first_line_can_be_all_that_is_read(tmp_path: Path, arguments: list[str]) -> None:
    for number in range(1500 if arguments[0] == "runs" else 0):
        (tmp_path / f"{'long' * 20}{number}").mkdir()
        (tmp_path / f"{'long' * 20}{number}" / "config.yaml").write_text("{}")
    given = [f"--root={tmp_path}"] if arguments[0] == "runs" else []
    with program(*arguments, *given) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in (0, exit_status.PIPE_CLOSED)  # 0: all was written before the pipe was closed


def test_a_full_disk_at_the_output_is_an_error_of_one_line() -> None:
    with open("/dev/full", "wb") as full, program("--help", out=full.fileno()) as process:  # noqa: PTH123
        assert process.stderr is not None
        [line] = process.stderr.read().splitlines()
    assert process.returncode == exit_status.FAILED
    assert line.startswith(b"jukebox: the output: No space left on device;")


def test_closed_streams_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert ending(monkeypatch, lambda: print("nobody reads it") or 0) == 0
    sys.stdout.close()
    sys.stderr.close()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(36, "File name too long", "x" * 300), "File name too long; mend that, and run the same command"),
        (PermissionError(13, "Permission denied", b"caf\xe9"), r"jukebox: 'caf\udce9': Permission denied;"),
        (OSError("no number"), "jukebox: the output: no number;"),
        (UnicodeEncodeError("utf-8", "caf\udce9", 3, 4, "surrogates not allowed"), "jukebox: text that is not UTF-8 ("),
        (BrokenPipeError(32, "Broken pipe"), "jukebox: the output: Broken pipe;"),  # of a socket: stdout is fine
    ],
)
def test_an_error_of_the_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    assert ending(monkeypatch, raising(error)) == exit_status.FAILED
    [printed] = capsys.readouterr().err.splitlines()
    assert line in printed


def test_names_cannot_steer_the_terminal_or_forge_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = "a\x1b[31m\u202egnp\njukebox: caf\udce9 ünë"

    def work() -> int:
        with console.run_log(tmp_path / "run.log") as log:
            log.info("read %s", name)
        print(name)
        raise FileNotFoundError(2, "No such file", name)

    assert ending(monkeypatch, work) == exit_status.FAILED
    captured = capsys.readouterr()
    shown = r"a\x1b[31m\u202egnp\njukebox: caf\udce9 ünë"
    assert f"read {shown}" in captured.err
    assert f"INFO read {shown}" in (tmp_path / "run.log").read_text("utf-8")
    assert "\x1b" not in captured.err
    assert len(captured.err.splitlines()) == 2
    assert logging.getLogger("jukebox").handlers == []


@pytest.mark.parametrize("arguments", [["encode", "audio=[a.wav]"], ["runs", "list"], ["train"]], ids=" ".join)
def test_a_current_folder_that_was_removed_is_named(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert cli.main(arguments) == exit_status.REFUSED
    said = capsys.readouterr().err
    assert (
        said == "jukebox: the current folder cannot be used (No such file or directory); change to another one (cd)\n"
    )


def test_a_current_folder_whose_path_cannot_be_used_is_named_before_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a\nb").mkdir()
    monkeypatch.chdir(tmp_path / "a\nb")
    assert cli.main(["runs", "list"]) == exit_status.REFUSED
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("jukebox: path ")
    assert line.endswith(r"a\nb' has the control character '\n'; leave it out, or rename the file")
