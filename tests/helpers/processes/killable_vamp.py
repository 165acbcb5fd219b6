"""Fork server of the command `jukebox vamp` that tests kill: each child is killed by itself at a given pass.

``python -m tests.helpers.processes.killable_vamp LOG OVERRIDE...`` reads and answers lines as `killable_variation`
does; each child is the whole command without Prefect's server, with everything imported.
"""

from __future__ import annotations

import functools
import os
import sys

import torch

from jukebox_core.audio import pictures
from pipelines import commands
from pipelines.cli import main as cli
from pipelines.execution import preflight, variation
from pipelines.flows import generate
from tests.helpers.processes.killable_variation import kill_after

_LATER = (generate, pictures, preflight, variation)  # imported here so that the children need not


def main(log: str, *overrides: str) -> None:
    torch.set_num_threads(1)
    commands.make = functools.partial(commands.make, how="plain")
    for line in sys.stdin:
        passes, moment = line.split()
        child = os.fork()
        if not child:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            kill_after(int(passes), moment, os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            os._exit(cli.main(["vamp", *overrides]))
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
