"""The commands of README and guide are run, in order, in a temporary folder; only lengths are shortened.

Music and the windows of the embedded model are shortened by the same factor, so that a level still has several windows.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from jukebox_core.audio.files import write_audio
from jukebox_core.composer.tune import tune
from pipelines.settings.compose import GENERATE, compose
from tests.helpers.models.small_model import write_small_model
from tests.helpers.pages import ROOT, Command, blocks, commands

if TYPE_CHECKING:
    from pathlib import Path

RATE = 22050
SHRINK = 0.2 / 6
SHRUNK_DEFAULT, SHRUNK_TUNE = "seconds=0.2000", "prompt.seconds=0.1000"
SHRUNK_MODEL = "model=./small.yaml"

# In one process: each command's imports take longer than its work.
ALL_IN_ONE = """
import sys, time
from pipelines.cli.main import main
for command in {commands!r}:
    began = time.monotonic()
    try:
        status = main(command)
    except SystemExit as end:  # --help
        status = end.code
    print(f"{{time.monotonic() - began:.1f}} s: {{command}}", file=sys.stderr)
    assert not status, command
"""


def shrunk(command: Command) -> Command:
    """The command with every length made shorter by the same factor, and usual lengths spelt out."""

    def smaller(found: re.Match[str]) -> str:
        return f"{found[1]}{float(found[2]) * SHRINK:.4f}"

    # The length of the whole song stays: the model knows no shorter ones.
    words = [re.sub(r"^((?!song\.)(?:\w+\.)?\w*seconds=)([\d.]+)$", smaller, word) for word in command]
    if command[1] == "generate":
        if not any(word.startswith("seconds=") for word in words):
            words.append(SHRUNK_DEFAULT)
        if {"prompt=tune", "experiment=demo"} & set(words):
            words.append(SHRUNK_TUNE)
        if not any(word.startswith("model=") for word in words):
            words.append(SHRUNK_MODEL)
    return tuple(words)


class Shell:
    """A user's folder with a recording, lyrics, and the installed program."""

    def __init__(self, folder: Path, prefect: str) -> None:
        self.folder = folder
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "JUKEBOX_"))}
        own = {"HOME": str(folder), "PREFECT_API_URL": prefect, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT)}
        self._environment = keep | own | {"OMP_NUM_THREADS": "1"}
        write_audio(folder / "clip.mp3", tune(4.0, RATE), RATE)
        (folder / "words.txt").write_text(
            "Over the water, over the hill,\nthe mill wheel turns and never stands still.\n"
        )
        write_small_model(folder / "small.yaml")
        for page in ("README.md", "docs/guide.md"):
            for block in blocks(page):
                if block.language == "yaml":
                    (folder / block.text.split()[1]).write_text(block.text)

    def python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        print(done.stderr)
        return done.stdout


@pytest.fixture
def shell(tmp_path: Path, prefect_api: str) -> Shell:
    return Shell(tmp_path, prefect_api)


def needs_released_weights(command: Command) -> bool:
    overrides = [word for word in command[2:] if "=" in word]
    own = any(word.startswith("model=.") for word in overrides)
    sweep = "--multirun" in command
    return (
        command[1] == "generate"
        and not own
        and not sweep
        and compose(GENERATE, overrides).model.files.terms is not None
    )


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md"])
def test_every_command_is_of_a_kind_that_is_tested(page: str) -> None:
    assert commands(page)
    assert {command[0] for command in commands(page)} <= {"make", "jukebox"}
    for command in commands(page):
        if command[0] == "make":
            done = subprocess.run(["make", "-n", *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        else:
            needs_released_weights(command)  # composes, so that every setting is checked


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("generate seconds=6 prompt.seconds=3", "generate seconds=0.2000 prompt.seconds=0.1000"),
        ("generate prompt=tune", f"generate prompt=tune {SHRUNK_DEFAULT} {SHRUNK_TUNE}"),
        ("generate song.total_seconds=60", f"generate song.total_seconds=60 {SHRUNK_DEFAULT}"),
        ("continue a seconds=12", "continue a seconds=0.4000"),
        ("upsample a", "upsample a"),
    ],
)
def test_lengths_shrink_together(command: str, expected: str) -> None:
    model = [SHRUNK_MODEL] if command.startswith("generate") else []
    assert shrunk(("jukebox", *command.split())) == ("jukebox", *expected.split(), *model)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", ["README.md", pytest.param("docs/guide.md", marks=pytest.mark.endurance)])
def test_the_commands_work(shell: Shell, page: str) -> None:
    run = [command for command in commands(page) if command[0] == "jukebox" and not needs_released_weights(command)]
    printed = shell.python("-c", ALL_IN_ONE.format(commands=[shrunk(command)[1:] for command in run])).splitlines()
    files = [line for line in printed if re.fullmatch(r"[^ ]+\.(wav|mp3|flac|npz)", line)]
    assert sum((shell.folder / file).is_file() for file in files) > 5  # some are removed again


@pytest.mark.slow
def test_the_python_works(shell: Shell) -> None:
    [program] = [block.text for block in blocks("README.md") if block.language == "python"]
    assert "seconds=6" in program
    shown = "\nassert music.audio.shape == (1, 275 * 128) and music.codes[2].shape == (1, 275)\n"
    shell.python("-c", program.replace("seconds=6", "seconds=1.6") + shown)
