"""Reads torch's first checkpoint format by mapping it into memory; OpenAI's released files appear to use it.

torch before 1.6 wrote a sequence of pickles (magic number, version, machine, the object, names of storages) and then
each storage as a 64-bit element count and its raw values. `torch.load` cannot map that format: a 10 GB file would fill
10 GB of memory before its first tensor is used. Here the pickles are read with a table of permitted names, none of
which can run code from the file, and a tensor's values are read when the tensor is accessed.
"""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import CheckpointError
from jukebox_core.models.checkpoints.mapped import OpenFile, Storage, TensorUnpickler, check_inside, lazy_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_COUNT = struct.Struct("<q")


def read_legacy(path: Path) -> tuple[Any, OpenFile]:
    """Returns the object in a checkpoint of the first format, with a `LazyTensor` for each tensor, and its file.

    That every storage lies inside the file is checked here, so a truncated file fails now and not at a tensor's
    first use.

    Raises:
        ForbiddenNameError: the pickle names code.
        pickle.UnpicklingError: it is not a checkpoint of this format.
        CheckpointError: it is one, but truncated.
    """
    with path.open("rb") as file:
        if TensorUnpickler(file).load() != _MAGIC_NUMBER:
            raise pickle.UnpicklingError("no magic number")
        try:
            version = TensorUnpickler(file).load()
            TensorUnpickler(
                file
            ).load()  # the machine that wrote it: byte order and integer sizes, the same everywhere today
            content = TensorUnpickler(file, encoding="utf-8").load()
            keys = TensorUnpickler(file).load()
        except (EOFError, pickle.UnpicklingError) as error:
            if isinstance(error, EOFError) or "truncated" in str(error):
                raise _truncated(path, "before the names of its tensors end") from error
            raise
        if version != _PROTOCOL_VERSION:
            raise pickle.UnpicklingError("unknown version of the format")
        tensors = list(lazy_tensors(content))
        starts = _storage_starts(path, file, keys, {lazy.storage.key: lazy.storage for lazy in tensors})
        check_inside(path, tensors)
        return content, OpenFile(file, starts)


def _storage_starts(path: Path, file: BinaryIO, keys: list[str], storages: Mapping[str, Storage]) -> dict[str, int]:
    size = path.stat().st_size
    starts: dict[str, int] = {}
    for key in keys:
        header = file.read(_COUNT.size)
        if len(header) < _COUNT.size:
            raise _truncated(path, f"after {len(starts)} of {len(keys)} tensors")
        storage = storages.get(key)
        if storage is None or storage.count != _COUNT.unpack(header)[0]:
            raise CheckpointError(
                f"{path}: storage {key} is not what its index says; the file is damaged, fetch it again"
            )
        starts[key] = file.tell()
        end = starts[key] + storage.count * storage.dtype.itemsize
        if end > size:
            raise _truncated(path, f"after {len(starts) - 1} of {len(keys)} tensors")
        file.seek(end)
    missing = set(storages) - set(starts)
    if missing:
        raise CheckpointError(f"{path}: {len(missing)} storages are not in the file; it is damaged, fetch it again")
    return starts


def _truncated(path: Path, where: str) -> CheckpointError:
    return CheckpointError(f"{path} ends {where}: {path.stat().st_size:,} bytes are not all of it; fetch it again")
