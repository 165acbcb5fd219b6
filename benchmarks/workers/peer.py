"""The peer: PyPI's `jukebox-infer`, OpenAI's Jukebox for current PyTorch, measured in a separate process.

`install` installs the package, without most of its dependencies, into the cache folder. This file, run as a program
with that folder on PYTHONPATH, is a worker of `benchmarks.workers.process`. Three things are patched, in that process
only: a check that requires CUDA index tensors accepts those of the CPU; the progress bar around its loops records the
time of every iteration; and random initialisation, which takes minutes, is skipped. The code that is measured is the
package's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.fill import fill
from benchmarks.workers.process import serve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PEER = "jukebox-infer==0.1.2"
NEEDS = ("tqdm",)  # the only dependency of its autoregressive model except torch and numpy

# The official sizes: arguments of the peer's autoregressive model.
SIZES = {
    "upsampler": {
        "input_shape": (8192,), "bins": 2048, "width": 1920, "depth": 72, "heads": 1, "attn_order": 2, "blocks": 128,
    },
    "top": {
        "input_shape": (6144 + 384,), "bins": 2048 + 79, "width": 2048, "depth": 72, "heads": 2, "attn_order": 12,
        "blocks": 64, "prime_len": 384,
    },
}  # fmt: skip


def install() -> Path:
    """Returns the folder of the peer; the first call installs it from PyPI."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    folder = cache / "jukebox-benchmarks" / PEER.replace("==", "-")
    if not folder.is_dir():
        part = folder.with_suffix(".part")
        pip = [sys.executable, "-m", "pip"]
        if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
            pip = ["uv", "pip"]
        subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", str(part), PEER, *NEEDS], check=True)
        part.rename(folder)
    return folder


def has_peer() -> bool:
    """Whether the peer is or can be installed; prints a line if not."""
    try:
        install()
    except (subprocess.CalledProcessError, FileNotFoundError):
        print("the peer cannot be installed from PyPI and is not measured", file=sys.stderr)
        return False
    return True


class Peer:
    """The peer's model of one level with random weights; the interface of `benchmarks.workers.ours.Ours`."""

    def __init__(self, part: str, threads: int, depth: int | None, device: str) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        if device == "cpu":
            torch.cuda.LongTensor = torch.LongTensor
        torch.nn.init.normal_ = lambda tensor, *_, **__: tensor
        package = ModuleType("jukebox_infer")  # replaces its own, which imports librosa and more
        package.__path__ = [str(install() / "jukebox_infer")]
        sys.modules["jukebox_infer"] = package
        autoregressive = import_module("jukebox_infer.prior.autoregressive")

        self.turns: list[float] = []
        autoregressive.get_range = self._timed
        self.model = autoregressive.ConditionalAutoregressive2D(
            **(SIZES[part] | ({"depth": depth} if depth else {})), x_cond=True, y_cond=True, zero_out=False
        ).eval()
        fill(self.model)
        self.device = torch.device(device)
        self.model.to(self.device)

    def _timed(self, turns: Iterable[Any]) -> Iterator[Any]:
        for turn in turns:
            yield turn
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            self.turns.append(time.perf_counter())

    def _sample(self, batch: int, known: int, new: int, chunk: int) -> list[float]:
        width = self.model.width
        self.turns = [time.perf_counter()]
        self.model.primed_sample(
            batch,
            torch.randint(2048, (batch, known), device=self.device),
            x_cond=torch.zeros(batch, 1, width, device=self.device),
            y_cond=torch.zeros(batch, 1, width, device=self.device),
            chunk_size=chunk,
            sample_tokens=known + new,
        )
        return [after - before for before, after in pairwise(self.turns)]

    def decode(self, batch: int, steps: int, **_: Any) -> dict[str, Any]:
        """Returns the seconds of every step, after one known token and one warm-up step."""
        return {"step_s": self._sample(batch, 1, steps + 1, 1)[2:]}

    def prefill(self, batch: int, tokens: int, **_: Any) -> dict[str, Any]:
        """Returns the seconds of the prefill of `tokens` tokens, in upstream's chunks of 32."""
        return {"seconds": sum(self._sample(batch, tokens, 1, 32)[:-1])}


if __name__ == "__main__":
    serve(Peer)
