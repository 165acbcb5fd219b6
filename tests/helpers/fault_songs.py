"""Songs made by as many processes as it takes, and what a fault cost them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

SCRIPT = Path(__file__).with_name("killable_run.py")
FLUSH = 16  # tokens after which an unfinished window is stored
SAMPLES = 2
PATIENCE = 120.0  # seconds without an end, after which a run counts as hung


class HungError(AssertionError):
    """A process did not end."""


class Cradle:
    """Begins processes that make songs, one at a time."""

    def __init__(self, log: Path) -> None:
        with log.open("ab") as file:
            self._parent = subprocess.Popen(
                [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True
            )
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()

    def _listen(self) -> None:
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            self._said.put(line)

    def begin(self, order: dict[str, Any]) -> int:
        """Begins a process; returns its number."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(order) + "\n")
        self._parent.stdin.flush()
        word, number = self._said.get(timeout=PATIENCE).split()
        assert word == "began"
        return int(number)

    def ended(self, patience: float) -> int | None:
        """Waits for the end of the process; returns its status as of a shell, or None if it goes on."""
        try:
            word, status = self._said.get(timeout=patience).split() if patience else self._said.get_nowait().split()
        except queue.Empty:
            return None
        assert word == "ended"
        return -(int(status) & 0x7F) or int(status) >> 8

    def close(self) -> None:
        """Ends it."""
        self._parent.kill()
        self._parent.wait()
        self._ear.join()
        for pipe in (self._parent.stdin, self._parent.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def cradle(folder: Path) -> Iterator[Cradle]:
    """A cradle that is there while the block runs."""
    made = Cradle(folder / "cradle.log")
    try:
        yield made
    finally:
        made.close()


@dataclass
class Song:
    """One song of two samples: its run folder lies in `folder`, its tokens in `store`."""

    cradle: Cradle
    model: Path
    folder: Path
    store: str
    seed: int = 1
    more: tuple[str, ...] = ("seconds=0.4",)  # overrides
    environment: dict[str, str] = field(default_factory=dict)
    process: int = 0
    worst: int = 0  # tokens of one sample that one process drew though they had been drawn before
    again: int = 0  # such tokens of all samples and processes
    _counted: int = 0

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def drawn(self) -> Path:
        return self.folder / "drawn"

    @property
    def said(self) -> str:
        """What its processes wrote to stderr."""
        return (self.folder / "log").read_text()

    def begin(self) -> None:
        """Begins the run, or takes it up."""
        self.folder.mkdir(parents=True, exist_ok=True)
        overrides = [
            f"model={self.model}",
            "run.name=run",
            f"sampling.seed={self.seed}",
            f"sampling.n_samples={SAMPLES}",
            "hardware.threads=1",
            "hardware.device=cpu",
            f"storage.root={self.folder}",
            f"storage.tokens={self.store}",
            f"weights.folder={self.model.parent}/weights",
            f"storage.flush_tokens={FLUSH}",
            "storage.snapshot_share=0.2",
            "runner.preview_seconds=null",
            "output.report=false",
            *self.more,
        ]
        order = {"overrides": overrides, "drawn": str(self.drawn), "log": str(self.folder / "log")}
        self.process = self.cradle.begin(order | {"environment": self.environment})

    def end(self) -> int:
        """Waits until the process ends; returns its status.

        Raises:
            HungError: it does not.
        """
        status = self.cradle.ended(PATIENCE)
        if status is None:
            raise HungError(f"process {self.process} goes on after {PATIENCE} s: {self.said[-2000:]}")
        self._count_again()
        return status

    def finish(self) -> None:
        """Makes the song, from whatever is there."""
        self.begin()
        assert self.end() == 0, self.said[-3000:]

    def signalled(self, number: signal.Signals, after: float) -> bool:
        """Begins the run and sends its process a signal after some seconds; whether it was still going on."""
        self.begin()
        time.sleep(after)
        status = self.cradle.ended(0)
        if status is not None:
            assert status == 0, self.said[-3000:]
            self._count_again()
            return False
        os.kill(self.process, number)
        return True

    def wait_for(self, *, draws: int) -> None:
        """Waits until so many tokens are drawn."""
        until = time.monotonic() + PATIENCE
        while not self.drawn.exists() or self.drawn.read_bytes().count(b"\n") < draws:
            assert time.monotonic() < until, self.said[-3000:]
            time.sleep(0.02)

    def outcome(self) -> dict[str, Any]:
        """All that a listener gets, by name: audio and codes."""
        made: dict[str, Any] = {
            path.relative_to(self.run).as_posix(): path.read_bytes() for path in sorted(self.run.glob("audio/**/*.wav"))
        }
        for path in sorted(self.run.glob("codes/*.npz")):
            with np.load(path) as arrays:
                made |= {f"{path.name} {name}": arrays[name].tolist() for name in arrays.files if "level" in name}
        assert len(made) == 6 * SAMPLES
        return made

    def draws(self) -> Counter[str]:
        """How often each token was drawn, by level, sample and position."""
        return Counter(self.drawn.read_text().splitlines())

    def _count_again(self) -> None:
        """Counts what the process that just ended drew again."""
        lines = self.drawn.read_text().splitlines() if self.drawn.exists() else []
        before, now = set(lines[: self._counted]), lines[self._counted :]
        again = Counter(line.split()[1] for line in now if line in before)
        self.again += again.total()
        self.worst = max(self.worst, *again.values(), 0)
        self._counted = len(lines)
