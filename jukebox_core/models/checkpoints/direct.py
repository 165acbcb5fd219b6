"""Reads a safetensors file of this program directly into a module: nothing is converted, or in memory twice.

The file must hold exactly the tensors of the module, as `save_safetensors` writes them. Reading is then as fast as the
disk or the page cache, also into memory that was laid out in advance. Tables of which a few rows are needed can stay
memory-mapped.
"""

from __future__ import annotations

import json
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from jukebox_core.errors import CheckpointError
from jukebox_core.models.checkpoints.checkpoint import traits
from jukebox_core.models.checkpoints.names import tied_groups

if TYPE_CHECKING:
    from collections.abc import Collection
    from io import FileIO
    from pathlib import Path

_READERS = 2  # threads: while one waits for the disk, or for a large page, the other reads
_LENGTH = struct.Struct("<Q")


def read_into(
    module: nn.Module,
    path: Path,
    device: torch.device | None = None,
    *,
    mapped: Collection[str] = (),
    part: bool = False,
) -> None:
    """Fills a module with the tensors in the file at ``path``, which are its own by name, dtype and shape.

    Args:
        module: Its tensors in main memory are filled in place; those on the meta device are created.
        path: A file that is replaced, never written to.
        device: Where tensors are created; main memory by default.
        mapped: Names of tensors on the meta device that stay memory-mapped if `device` is main memory: tables, of
            which a few rows are needed.
        part: the module is a part of the file's: other tensors of the file are not read.

    Raises:
        CheckpointError: the file does not hold exactly the module's tensors; nothing was read.
        OSError: it cannot be read.
    """
    targets = module.state_dict(keep_vars=True)
    groups = {names[0]: names for names in tied_groups(targets)}
    with path.open("rb", buffering=0) as file:
        begins, entries = _header(file, path)
        expected = {name: traits(targets[name])[:2] for name in groups}
        found = {
            name: (entry["dtype"], entry["shape"]) for name, entry in entries.items() if not part or name in expected
        }
        if found != expected:
            strange = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            raise CheckpointError(f"{path} is not of this module: {len(strange)} tensors differ, first {strange[0]}")
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)

        def filled(name: str) -> tuple[str, Tensor]:
            target, at = targets[name], begins + entries[name]["data_offsets"][0]
            if name in mapped and target.is_meta and (device is None or device.type == "cpu"):
                return name, _map(target, path, at)
            values = torch.empty(target.shape, dtype=target.dtype) if target.is_meta else target.detach()
            _fill(values, file.fileno(), at, path)
            return name, values

        with ThreadPoolExecutor(_READERS) as pool:
            for name, values in pool.map(filled, sorted(groups, key=lambda name: entries[name]["data_offsets"])):
                if targets[name].is_meta:
                    _place(module, groups[name], targets[name], values.to(device))


def _header(file: FileIO, path: Path) -> tuple[int, dict[str, Any]]:
    """Returns the byte at which values begin, and the entries of the header by name."""
    size = os.fstat(file.fileno()).st_size
    try:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        entries = json.loads(file.read(min(length, size)))
        entries.pop("__metadata__", None)
        stop = max(entry["data_offsets"][1] for entry in entries.values())
    except (struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is no safetensors file ({error}); delete it") from error
    begins = _LENGTH.size + length
    if begins + stop != size:
        raise CheckpointError(f"{path} has {size:,} bytes, but by its header {begins + stop:,}; delete it")
    return begins, entries


def _fill(values: Tensor, file: int, at: int, path: Path) -> None:
    left = values.view(-1).view(torch.uint8).numpy().data
    while left:
        read = os.preadv(file, [left], at)
        if not read:
            raise CheckpointError(f"{path} ended while it was read; delete it")
        left, at = left[read:], at + read


def _map(target: Tensor, path: Path, at: int) -> Tensor:
    content = np.memmap(path, dtype=np.uint8, mode="c", offset=at, shape=(target.nbytes,))
    return torch.from_numpy(content).view(target.dtype).view(target.shape)


def _place(module: nn.Module, names: list[str], target: Tensor, values: Tensor) -> None:
    placed = nn.Parameter(values, requires_grad=target.requires_grad) if isinstance(target, nn.Parameter) else values
    for name in names:
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, placed)
