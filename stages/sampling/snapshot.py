"""Snapshots of a window's cache on the local disk, so that a resumed window need not step through its tokens again.

A snapshot only saves time: tokens are safe in the store without it, and stepping through them again gives the same
bits. So it is written only as often as a small share of the sampling time allows, and ignored unless it fits exactly.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest, digest_bytes, digest_file
from jukebox_core.base.text import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from jukebox_core.tokens.graph import Node

log = logging.getLogger("jukebox")

ROOM_LEFT = 2_000_000_000  # bytes of disk that snapshots leave free


@dataclass
class Snapshots:
    """The snapshots of one window of one shard of songs.

    Writing takes at most `share` of the time: after a write that took a second, the next waits 1 / `share` seconds, be
    it of the same window or of the next one. Only a process's first write does not know what it will take.
    """

    folder: str | None  # None keeps none
    nodes: Sequence[Node]
    share: float
    _written: float = field(default_factory=lambda: time.monotonic())

    last_cost: ClassVar[float] = 0.0  # seconds that this process's last write took

    @property
    def path(self) -> Path:
        """The file that holds the window's cache."""
        assert self.folder is not None
        return Path(self.folder).expanduser() / f"{digest([node.key for node in self.nodes])}.safetensors"

    def due(self, every: float) -> bool:
        """Whether it is time to write one, being asked at most every `every` seconds of sampling."""
        return (
            self.folder is not None
            and self.share > 0
            and time.monotonic() >= self._written + max(every, Snapshots.last_cost / self.share)
        )

    def write(self, saved: Mapping[str, Tensor], tokens: NDArray[np.int32]) -> None:
        """Stores what a decoder's `save` returned, after it drew `tokens` [samples, time]. Failing is no error."""
        began = time.monotonic()
        size = sum(tensor.nbytes for tensor in saved.values())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.path.parent).free < size + ROOM_LEFT:
                log.info("no snapshot of the cache (%s): too little room in %s", format_bytes(size), self.folder)
            else:
                draft = self.path.with_suffix(".draft")
                save_file({name: tensor.contiguous().cpu() for name, tensor in saved.items()}, draft)
                sha256 = digest_file(draft)
                draft.replace(self.path)
                with atomic_write(self._about) as file:
                    file.write(json.dumps({"sha256": sha256, **self._says(tokens)}).encode())
        except OSError as error:
            log.info("no snapshot of the cache: %s", error)
        self._written = time.monotonic()
        Snapshots.last_cost = self._written - began

    def read(self, tokens: NDArray[np.int32]) -> dict[str, Tensor] | None:
        """Returns the stored cache if it was written by this version after a beginning of `tokens`, else None."""
        if self.folder is None:
            return None
        try:
            about = json.loads(self._about.read_bytes())
            drawn = tokens[:, : about["drawn"]]
            if {"sha256": digest_file(self.path), **self._says(drawn)} != about:
                return None
            return load_file(self.path)
        except (OSError, ValueError, KeyError, SafetensorError):
            return None

    def remove(self) -> None:
        """Deletes the snapshot: the window is sealed."""
        for path in (self._about, self.path) if self.folder is not None else ():
            path.unlink(missing_ok=True)

    @property
    def _about(self) -> Path:
        return self.path.with_suffix(".json")

    def _says(self, tokens: NDArray[np.int32]) -> dict[str, object]:
        return {
            "windows": [node.key for node in self.nodes],
            "drawn": tokens.shape[1],
            "tokens": digest_bytes(tokens.tobytes()),
            "torch": torch.__version__,
        }
