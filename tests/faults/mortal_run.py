"""One run in a process of its own, to be killed: the generate flow without Prefect's server, counting what it draws.

``python mortal_run.py MODEL.yaml FOLDER STORE SEED DRAWN``: every token is noted in the file DRAWN as it is drawn, so
that a test can say which were drawn twice. Prints READY when the flow begins.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import torch
from prefect import Task

from jukebox_core.records import to_plain
from jukebox_core.sampling.noise import CounterNoise
from pipelines import tasks
from pipelines.compose import GENERATE, compose, dump
from pipelines.generate import generate_flow
from pipelines.runs import open_run
from stages import sample

if TYPE_CHECKING:
    from collections.abc import Sequence

FLUSH = 16


def main(model: str, folder: str, store: str, seed: str, drawn: str) -> None:
    torch.set_num_threads(1)
    settings = compose(
        GENERATE,
        [
            f"model={model}",
            "run.name=run",
            "seconds=0.4",
            f"sampling.seed={seed}",
            "sampling.n_samples=2",
            "hardware.threads=1",
            "hardware.device=cpu",
            f"storage.root={folder}",
            f"storage.tokens={store}",
            f"weights.folder={folder}/weights",
            f"storage.flush_tokens={FLUSH}",
            "storage.snapshot_share=0.2",
            "output.report=false",
        ],
    )
    _note_draws(drawn)
    for name, value in list(vars(tasks).items()):
        if isinstance(value, Task):
            setattr(tasks, name, value.fn)
    run = open_run(settings, dump(settings))
    print("READY", flush=True)
    generate_flow.fn(to_plain(settings), str(run.path))


def _note_draws(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    class NotedNoise(CounterNoise):
        def __init__(self, seed: int, level: int, samples: Sequence[int]) -> None:
            super().__init__(seed, level, samples)
            self._noted = level, samples

        def draw(self, position: int, count: int) -> Any:
            level, samples = self._noted
            os.write(file, "".join(f"{level} {sample} {position}\n" for sample in samples).encode())
            return super().draw(position, count)

    sample.CounterNoise = NotedNoise  # type: ignore[misc]


if __name__ == "__main__":
    main(*sys.argv[1:])
