"""Songs made by processes that are killed and restarted, and how many tokens each fault cost."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
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

from tests.helpers.patience import patience

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parent / "processes/killable_run.py"
FLUSH = 16  # tokens after which an unfinished window is stored
SAMPLES = 2
POLL_SECONDS = 0.02  # more often, and looking would take as long as what is looked at
TIMEOUT = 120.0  # seconds after which a process that has not ended counts as hung


class HungError(AssertionError):
    """A process did not end."""


class ForkServer:
    """Starts processes that make songs, one at a time, by forking a process that has imported everything."""

    def __init__(self, log: Path, environment: dict[str, str] | None = None) -> None:
        with log.open("ab") as file:
            self._parent = subprocess.Popen(
                [sys.executable, str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment,
            )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            self._answers.put(line)

    def start(self, order: dict[str, Any]) -> int:
        """Starts a process; returns its process ID."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(order) + "\n")
        self._parent.stdin.flush()
        word, number = self._answers.get(timeout=patience(TIMEOUT)).split()
        assert word == "began"
        return int(number)

    def wait(self, timeout: float) -> int | None:
        """Waits for the end of the process; returns its exit status (negative: signal), or None if it still runs."""
        try:
            word, status = self._answers.get(timeout=timeout).split() if timeout else self._answers.get_nowait().split()
        except queue.Empty:
            return None
        assert word == "ended"
        return -(int(status) & 0x7F) or int(status) >> 8

    def close(self) -> None:
        """Ends the server."""
        self._parent.kill()
        self._parent.wait()
        self._reader.join()
        for pipe in (self._parent.stdin, self._parent.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def fork_server(folder: Path, environment: dict[str, str] | None = None) -> Iterator[ForkServer]:
    """A fork server that ends with the block; `environment`: its own; None: this process's."""
    server = ForkServer(folder / "fork_server.log", environment)
    try:
        yield server
    finally:
        server.close()


@dataclass
class Song:
    """One song of two samples: its run folder is in `folder`, its tokens are in `store`."""

    server: ForkServer
    model: Path
    folder: Path
    store: str
    seed: int = 1
    more: tuple[str, ...] = ("seconds=0.4",)  # overrides
    environment: dict[str, str] = field(default_factory=dict)
    report: bool = False  # with pictures
    full: tuple[str, int, int] | None = None  # as of `processes.killable_run`
    process: int = 0
    most_redrawn: int = 0  # tokens of one sample that one process drew a second time
    redrawn: int = 0  # such tokens of all samples and processes
    _counted: int = 0

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def drawn(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.drawn")

    @property
    def log(self) -> str:
        """The text that its processes wrote to stderr."""
        return self._log_path.read_text()

    @property
    def _log_path(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    def start(self) -> None:
        """Starts the run, or resumes it."""
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
            f"output.report={self.report}",
            *self.more,
        ]
        order: dict[str, Any] = {"overrides": overrides, "how": "plain", "log": str(self._log_path), "full": self.full}
        self.process = self.server.start(order | {"drawn": str(self.drawn), "environment": self.environment})

    def wait(self) -> int:
        """Waits until the process ends; returns its exit status.

        Raises:
            HungError: it does not.
        """
        status = self.server.wait(patience(TIMEOUT))
        if status is None:
            raise HungError(f"process {self.process} still runs after {TIMEOUT} s: {self.log[-2000:]}")
        self._count_redrawn()
        return status

    def finish(self) -> None:
        """Finishes the song from the stored tokens."""
        self.start()
        assert self.wait() == 0, self.log[-3000:]

    def start_and_kill(self, stage: str, after: float) -> bool:
        """Starts the run and kills its process some seconds after it ended a stage; returns whether it still ran.

        Args:
            stage: as the manifest's timings name it; "" for the start of the process; "tokens": after drawing some.
            after: seconds, or tokens of all samples.
        """
        self.start()
        until = time.monotonic() + patience(TIMEOUT)
        while not self._reached(stage, after):
            status = self.server.wait(POLL_SECONDS)
            if status is not None:
                assert status == 0, self.log[-3000:]
                self._count_redrawn()
                return False
            assert time.monotonic() < until, self.log[-3000:]
        status = self.server.wait(after) if after and stage != "tokens" else None
        if status is None:
            with contextlib.suppress(ProcessLookupError):  # it ended, and was reaped, after the last look
                os.kill(self.process, signal.SIGKILL)
            status = self.wait()
        else:
            self._count_redrawn()
        assert status in (0, -signal.SIGKILL), self.log[-3000:]
        return status == -signal.SIGKILL

    def _reached(self, stage: str, after: float) -> bool:
        if stage == "tokens":
            lines = self.drawn.read_bytes().count(b"\n") if self.drawn.exists() else 0
            return lines >= self._counted + after
        return not stage or stage in (self.stages() or ())

    def stages(self) -> list[str] | None:
        """The stages that the last process has ended, by the manifest; None if the manifest is not its own yet."""
        try:
            manifest = json.loads((self.run / "manifest.json").read_bytes())
        except FileNotFoundError:
            return None
        if f"/{self.process}/" not in str(manifest.get("process")):
            return None
        return [timing["stage"] for timing in manifest.get("timings", [])]

    def wait_for(self, *, draws: int) -> None:
        """Waits until `draws` tokens are drawn."""
        until = time.monotonic() + patience(TIMEOUT)
        while not self.drawn.exists() or self.drawn.read_bytes().count(b"\n") < draws:
            assert time.monotonic() < until, self.log[-3000:]
            time.sleep(0.02)

    def outcome(self) -> dict[str, Any]:
        """The results by name: bytes of audio files and of pictures, lists of codes."""
        results: dict[str, Any] = {
            path.relative_to(self.run).as_posix(): path.read_bytes()
            for pattern in ("audio/**/*.wav", "pictures/*.png")
            for path in sorted(self.run.glob(pattern))
        }
        for path in sorted(self.run.glob("codes/*.npz")):
            with np.load(path) as arrays:
                results |= {f"{path.name} {name}": arrays[name].tolist() for name in arrays.files if "level" in name}
        assert len(results) == (12 if self.report else 6) * SAMPLES
        assert self.report == (self.run / "report.html").is_file()
        return results

    def draws(self) -> Counter[str]:
        """The number of times that each token was drawn, by level, sample and position."""
        return Counter(self.drawn.read_text().splitlines())

    def _count_redrawn(self) -> None:
        """Counts the tokens that the last process drew a second time."""
        lines = self.drawn.read_text().splitlines() if self.drawn.exists() else []
        before, now = set(lines[: self._counted]), lines[self._counted :]
        redrawn = Counter(line.split()[1] for line in now if line in before)
        self.redrawn += redrawn.total()
        self.most_redrawn = max(self.most_redrawn, *redrawn.values(), 0)
        self._counted = len(lines)
