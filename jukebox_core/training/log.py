"""Metrics of a training: JSON lines, and the same for TensorBoard with images and audio."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

METRICS_NAME = "metrics.jsonl"


class Log:
    """The log of one part's training, in a folder of its own.

    Args:
        folder: local; made if it does not exist.
        done: steps done so far. Entries of later steps, left by a process that was killed, are removed.
    """

    def __init__(self, folder: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / METRICS_NAME
        kept = [entry for entry in read_entries(self.path) if entry["step"] <= done]
        with atomic_write(self.path) as file:  # a kill meanwhile would lose what was logged so far
            file.write("".join(json.dumps(entry) + "\n" for entry in kept).encode())
        self._writer = SummaryWriter(str(folder), purge_step=done + 1 if done else None)

    def scalars(self, part: str, step: int, values: Mapping[str, float]) -> None:
        """Logs metrics of one step; `part` is 'train', or 'check' for an evaluation."""
        with self.path.open("a") as file:
            file.write(json.dumps({"part": part, "step": step, **values}) + "\n")
        for name, value in values.items():
            self._writer.add_scalar(f"{part}/{name}", value, step)

    def audio(self, name: str, step: int, audio_T: Tensor, rate: int) -> None:
        """Logs mono audio, float32 in [-1, 1]; `rate` in Hz."""
        self._writer.add_audio(name, audio_T[None].clamp(-1, 1), step, rate)

    def image(self, name: str, step: int, pixels_HWC: NDArray[np.uint8]) -> None:
        """Logs an RGB image."""
        self._writer.add_image(name, pixels_HWC, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes the log."""
        self._writer.close()


def read_entries(path: Path) -> list[dict[str, float]]:
    """Returns the entries of a log in order, without lines that are torn or damaged; none if there is no such file."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):  # the process was killed while it wrote
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            entries.append(entry)
    return entries
