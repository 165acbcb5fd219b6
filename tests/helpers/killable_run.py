"""Fork server of runs that tests kill: the same as `jukebox generate` without Prefect's server, with draws logged.

Reads a line of JSON for each run to start (`overrides`, `drawn`, `log`, `environment`) and forks: the child is an
ordinary process, except that torch and Prefect, which take seconds to import, are imported already. Answers
``began PID``, and ``ended STATUS`` when that process has ended. Every token is appended to the file `drawn` as it is
drawn, so that a test can count those drawn twice.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.errors import JukeboxError
from jukebox_core.families.jukebox.sampling import prior_model
from jukebox_core.sampling.noise import CounterNoise
from pipelines import commands as work
from pipelines.execution import preflight
from pipelines.flows import generate
from pipelines.orchestration import prefect_tasks
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.settings.compose import GENERATE, compose

if TYPE_CHECKING:
    from collections.abc import Sequence

_LATER = (generate, preflight)  # imported here so that children need not


def main() -> None:
    torch.set_num_threads(1)
    prefect_tasks.prefect_stages = lambda: PLAIN  # type: ignore[assignment]
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _exit_with(_run(json.loads(line)))
        print("began", child, flush=True)
        print("ended", os.waitpid(child, 0)[1], flush=True)


def _run(order: dict[str, Any]) -> int:
    os.setpgid(0, 0)
    os.environ.update(order["environment"], PREFECT_API_URL="http://127.0.0.1:9")  # never connected to
    for number in (1, 2):
        os.dup2(os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    _log_draws(order["drawn"])
    try:
        work.make(compose(GENERATE, order["overrides"]), in_flow=True)
    except JukeboxError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


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
