"""Fork server of variations that tests kill: each child samples until it kills itself at a given pass.

Reads ``PASSES MOMENT`` lines: a child dies in its pass of that number, ``drawn`` before the pass is stored, ``stored``
before the next one begins; 0 passes: it is not killed. Every pass is appended to the log. Answers the wait status.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch

from jukebox_core.families.vampnet.sampling.config import PassConfig, VampSampling
from jukebox_core.families.vampnet.sampling.grid_model import ChunkState
from jukebox_core.store.store import TokenStore
from tests.helpers.models.tiny_vampnet import Session, piece, tiny

STEPS, BATCH = 90, 2
SAMPLING = VampSampling(n_samples=BATCH, seed=5, coarse=PassConfig(steps=8), c2f=PassConfig(steps=3), feedback=2)


def sampled(uri: str) -> list[Any]:
    """The codes of both variations, sampled into the store at `uri` as far as they are not there."""
    import numpy as np

    session = Session(piece(STEPS), TokenStore(uri))
    mask = np.random.default_rng(1).random((5, STEPS)) < 0.8
    return session.sample(session.plans(mask, SAMPLING), SAMPLING, BATCH)


def main(uri: str, log: str) -> None:
    torch.set_num_threads(1)
    tiny()
    for line in sys.stdin:
        passes, moment = line.split()
        child = os.fork()
        if not child:
            kill_after(int(passes), moment, os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            sampled(uri)
            os._exit(0)
        print(os.waitpid(child, 0)[1], flush=True)


def kill_after(passes: int, moment: str, log: int) -> None:
    """Logs every pass of this process, which kills itself in pass number `passes`; 0: never."""
    step, done = ChunkState.step, 0

    def logged(self: ChunkState) -> int | None:
        nonlocal done
        if passes and done == passes:
            os.kill(os.getpid(), signal.SIGKILL)
        before = [chunk.state.done for chunk in self.chunks]
        drawn = step(self)
        if drawn is None:
            return None
        done += 1
        moved = [chunk for chunk, old in zip(self.chunks, before, strict=True) if chunk.state.done > old]
        os.write(log, "".join(f"{chunk.node.key} {chunk.state.done}\n" for chunk in moved).encode())
        if passes and done == passes and moment == "drawn":
            os.kill(os.getpid(), signal.SIGKILL)
        return drawn

    ChunkState.step = logged  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*sys.argv[1:])
