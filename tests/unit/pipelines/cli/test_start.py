"""The entry point of the installed program."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib

from tests.helpers.paths import ROOT

PROGRAM = """
import os, signal, sys

class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == {when!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal
sys.meta_path.insert(0, Interruption())
from {module} import {function} as program
sys.exit(program())
"""


def run(when: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs what pyproject.toml names; Ctrl-C is pressed when module `when` is imported."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    module, _, function = scripts["jukebox"].partition(":")
    program = PROGRAM.format(when=when, module=module, function=function)
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


def test_an_interruption_while_the_program_is_imported_ends_it_without_a_traceback() -> None:
    done = run("jukebox_core.errors", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_its_status_is_that_of_the_command() -> None:
    done = run("nothing", "genrate")
    assert done.returncode == 2
    assert done.stderr.startswith("jukebox: there is no command 'genrate'")
