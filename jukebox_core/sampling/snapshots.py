"""Snapshots of a window's cache on the local disk, so that a resumed window need not step through its tokens again.

A snapshot only saves time: tokens are safe in the store without it, and repeating their steps gives the same bits. So
it is written only as often as a small share of the sampling time allows, and ignored unless it fits exactly.
"""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from jukebox_core.base.atomic import atomic_write, locked_temporary
from jukebox_core.base.hashing import digest, digest_bytes, digest_file
from jukebox_core.base.paths import user_path
from jukebox_core.base.records import dump_record, is_regular, read_record
from jukebox_core.errors import RecordError
from jukebox_core.sampling.config import SnapshotRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.protocols import Progress
    from jukebox_core.tokens.graph import Node

log = logging.getLogger("jukebox")

ROOM_LEFT = 2_000_000_000  # bytes of disk that snapshots leave free


@dataclass
class Snapshots:
    """The snapshots of one window of one shard of songs.

    Writing takes at most `share` of the time: after a write of one second, the next one waits 1 / `share` seconds, in
    the same window or in a later one. Only the cost of a process's first write is not known in advance.
    """

    folder: str | None  # None: no snapshots
    nodes: Sequence[Node]
    share: float
    _written: float = field(default_factory=lambda: time.monotonic())

    last_cost: ClassVar[float] = 0.0  # seconds that this process's last write took

    @property
    def path(self) -> Path:
        """The file that holds the window's cache."""
        assert self.folder is not None
        return user_path(self.folder) / f"{digest([node.key for node in self.nodes])}.safetensors"

    def due(self, every: float) -> bool:
        """Whether a snapshot may be written now; they are at least `every` seconds apart."""
        return (
            self.folder is not None
            and self.share > 0
            and time.monotonic() >= self._written + max(every, Snapshots.last_cost / self.share)
        )

    def write(self, saved: Mapping[str, Tensor], progress: Sequence[Progress]) -> None:
        """Stores the tensors of `save_cache` with the progress that they belong to; a failure is only logged."""
        if not saved:
            return
        began = time.monotonic()
        size = sum(tensor.nbytes for tensor in saved.values())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.path.parent).free < size + ROOM_LEFT:
                log.info("no snapshot of the cache (%.1f GB): too little room in %s", size / 1e9, self.folder)
            else:
                with locked_temporary(self.path.parent, self.path.name) as (draft, _):
                    save_file({name: tensor.contiguous().cpu() for name, tensor in saved.items()}, draft)
                    sha256 = digest_file(draft)
                    draft.replace(self.path)
                with atomic_write(self._about) as file:
                    file.write(dump_record({"sha256": sha256, **self._description(progress)}, indent=None))
        except (OSError, SafetensorError) as error:  # the latter from a full disk
            log.info("no snapshot of the cache: %s", error)
        self._written = time.monotonic()
        Snapshots.last_cost = self._written - began

    def read(self, progress: Sequence[Progress]) -> dict[str, Tensor] | None:
        """Returns the stored cache if this version wrote it at `progress`, or at a prefix of its tokens, else None."""
        if self.folder is None:
            return None
        try:
            about = read_record(self._about, SnapshotRecord)
            if not is_regular(self.path):
                return None
            if {"sha256": digest_file(self.path), **self._description(progress, about["drawn"])} != about:
                return None
            return load_file(self.path)
        except (OSError, RecordError, SafetensorError):
            return None

    def remove(self) -> None:
        """Deletes the snapshot of a window that is sealed; idempotent."""
        for path in (self._about, self.path) if self.folder is not None else ():
            path.unlink(missing_ok=True)

    @property
    def _about(self) -> Path:
        return self.path.with_suffix(".json")

    def _description(self, progress: Sequence[Progress], drawn: int | None = None) -> dict[str, object]:
        """Returns the values that must be equal for a cache to be used; `drawn` limits them to the first tokens."""
        prefixes = [each.tokens[..., :drawn] for each in progress if each.tokens is not None]
        tokens = np.stack(prefixes) if prefixes else np.empty(0, np.int32)
        states = [each.state for each in progress if each.state is not None]
        return {
            "windows": [node.key for node in self.nodes],
            "drawn": tokens.shape[-1],
            "tokens": digest_bytes(tokens.tobytes()),
            "torch": torch.__version__,
        } | ({"states": [digest_bytes(state) for state in states]} if states else {})
