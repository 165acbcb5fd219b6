"""Fork server of runs that tests kill: the same as `jukebox generate`, with draws logged.

Reads a line of JSON for each run to start (`overrides`, `how`, `drawn`, `log`, `environment`, `full`) and forks: the
child is an ordinary process, except that torch, which takes seconds to import, is imported already. Answers
``began PID``, and ``ended STATUS`` when that process has ended. `how` is as of `pipelines.orchestration.flow_runs`;
None: as the command. Every token is appended to the file `drawn` as it is drawn, so that a test can count those drawn
twice; None: to no file. With `full` (a folder, a number of calls, an error number; the server runs below
tests/faults/full_disk.c) the disk fails from that call on, and the number of calls is written to the log.
What the first run that ends well has imported, the server imports too, so that later children need not: that is most of
the time until a killed process samples.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from jukebox_core.audio import pictures
from jukebox_core.families.jukebox.sampling import prior_model
from jukebox_core.sampling.noise import CounterNoise
from pipelines import commands
from pipelines.cli import main as cli
from pipelines.execution import preflight
from pipelines.flows import generate

if TYPE_CHECKING:
    from collections.abc import Sequence

_LATER = (generate, preflight)  # imported here so that the first children need not


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        pictures.spectrogram_png(np.zeros(100), 100, Path(folder) / "a.png")  # imports matplotlib
        modules, imported = Path(folder) / "modules", False  # those of the first run that ended well
        for line in sys.stdin:
            child = os.fork()
            if not child:
                status = _run(json.loads(line))
                if not status and not modules.exists():
                    modules.write_text("\n".join(sys.modules))
                _exit_with(status)
            print("began", child, flush=True)
            status = os.waitpid(child, 0)[1]
            if not status and not imported:
                _import(modules)
                imported = True
            print("ended", status, flush=True)


def _import(modules: Path) -> None:
    for name in modules.read_text().splitlines():
        if name not in sys.modules:
            with suppress(ImportError):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else collections of each child would copy the pages of all these objects


def _run(order: dict[str, Any]) -> int:
    os.setpgid(0, 0)
    os.environ.update(order["environment"])
    for number in (1, 2):
        os.dup2(os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    commands.make = functools.partial(commands.make, how=order["how"])
    if order["drawn"] is not None:
        _log_draws(order["drawn"])
    if order["full"] is None:
        return cli.main(["generate", *order["overrides"]])
    library, (folder, first, error) = ctypes.CDLL(None), order["full"]
    library.full_disk_from(folder.encode(), ctypes.c_long(first), error)
    status = cli.main(["generate", *order["overrides"]])
    calls = library.full_disk_calls()
    library.full_disk_from(b"", ctypes.c_long(first), error)
    print(f"{calls} calls")
    return status


def _exit_with(status: int) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _log_draws(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    class LoggedNoise(CounterNoise):
        def __init__(self, seed: int, level: int, samples: Sequence[int], device: torch.device | None = None) -> None:
            super().__init__(seed, level, samples, device)
            self._logged = level, samples

        def draw(self, position: int, count: int) -> Any:
            level, samples = self._logged
            os.write(file, "".join(f"{level} {sample} {position}\n" for sample in samples).encode())
            return super().draw(position, count)

    prior_model.CounterNoise = LoggedNoise  # type: ignore[misc]


if __name__ == "__main__":
    main()
